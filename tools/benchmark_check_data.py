"""Measure time and memory of tools/check_data.py on the annotations of many images.

The data set is made up: as many boxes and polygon corners per image as COCO has, and one small
image under many names.

Example:
    python tools/benchmark_check_data.py --images 100000
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

BOXES_PER_IMAGE = 7.3
CORNERS = 24
CLASSES = 80
SIZE = (640, 480)
TOOL = Path(__file__).resolve().parent / 'check_data.py'

# File systems allow so many names of one file (ext4: 65,000).
MOST_LINKS = 50_000


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=100_000)
    parser.add_argument('--formats', nargs='+', default=['coco', 'voc'], choices=['coco', 'voc'])
    return parser.parse_args()


def make_images(folder: Path, number: int) -> list[str]:
    folder.mkdir(parents=True)
    names = [f'{i:012d}.jpg' for i in range(number)]
    for begin in range(0, number, MOST_LINKS):
        first, *others = (folder / name for name in names[begin : begin + MOST_LINKS])
        cv2.imwrite(str(first), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        for other in others:
            os.link(first, other)
    return names


def make_boxes(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, class and x, y, width, height of every box."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(BOXES_PER_IMAGE, number)
    image = np.repeat(np.arange(number), counts)
    low = rng.integers(0, 400, (len(image), 2))
    size = rng.integers(4, 80, (len(image), 2))
    return image, rng.integers(0, CLASSES, len(image)), np.concatenate([low, size], 1)


def make_coco(root: Path, number: int) -> Path:
    names = make_images(root / 'train', number)
    images = [dict(id=i, file_name=n, width=SIZE[0], height=SIZE[1]) for i, n in enumerate(names)]
    categories = [dict(id=i, name=f'class {i}') for i in range(CLASSES)]
    rng = np.random.default_rng(1)
    with open(root / 'train.json', 'w') as file:
        head = json.dumps(dict(images=images, categories=categories))
        file.write(head[:-1] + ', "annotations": [')
        for i, (image, label, box) in enumerate(zip(*map(np.ndarray.tolist, make_boxes(number)))):
            polygon = np.round(rng.uniform(0, 400, 2 * CORNERS), 2).tolist()
            item = dict(id=i + 1, image_id=image, category_id=label, bbox=box, iscrowd=0)
            item.update(area=box[2] * box[3] / 2, segmentation=[polygon])
            file.write((', ' if i else '') + json.dumps(item))
        file.write(']}')
    return root / 'train.json'


def make_voc(root: Path, number: int) -> Path:
    names = make_images(root / 'train', number)
    image, label, boxes = make_boxes(number)
    starts = np.searchsorted(image, np.arange(number + 1))
    for i, name in enumerate(names):
        objects = ''.join(
            f'<object><name>class {label[j]}</name><pose>Unspecified</pose><truncated>0</truncated>'
            f'<difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
            f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>\n'
            for j in range(starts[i], starts[i + 1])
            for x, y, w, h in [boxes[j]]
        )
        (root / 'train' / name.replace('.jpg', '.xml')).write_text(
            f'<annotation><folder>train</folder><filename>{name}</filename><size><width>{SIZE[0]}'
            f'</width><height>{SIZE[1]}</height><depth>3</depth></size>{objects}</annotation>'
        )
    return root / 'train'


def main() -> None:
    args = parse_args()
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}')
    print(
        '| format | images | annotation files | seconds | peak memory GB |\n|---|---|---|---|---|'
    )
    for name in args.formats:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / 'data'
            path = (make_coco if name == 'coco' else make_voc)(root, args.images)
            files = [path] if path.is_file() else path.glob('*.xml')
            megabytes = sum(file.stat().st_size for file in files) / 1e6
            command = [sys.executable, str(TOOL), str(root), '--out', f'{scratch}/out']
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
        # Of the largest process so far; the one of COCO, which comes first, is the larger one.
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        print(f'| {name} | {args.images} | {megabytes:.0f} MB | {seconds:.1f} | {memory:.2f} |')


if __name__ == '__main__':
    main()
