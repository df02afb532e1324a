"""A small data set with known boxes in every format that is read."""

import json

import cv2
import numpy as np

CLASSES = ('cat', 'Hund', '猫')
# By image: class, x1, y1, x2, y2.
BOXES = {
    'a.jpg': [('cat', 10, 20, 50, 60), ('猫', 30, 5, 90, 35)],
    'b.jpg': [('Hund', 0, 0, 100, 80)],
    'c.jpg': [],
    'd.jpg': [('cat', 60, 40, 61, 41)],
    'e.jpg': [('猫', 1, 2, 30, 40)],
}
WIDTH, HEIGHT = 100, 80


def write_images(folder, names=BOXES):
    """Noise of 100 x 80 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        image = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), image)


def coco(names=BOXES, ids=(7, -3, 10**12), classes=CLASSES):
    """Content of a COCO file; category ids are arbitrary integers."""
    content = dict(
        images=[
            dict(id=100 + i, file_name=name, width=WIDTH, height=HEIGHT)
            for i, name in enumerate(names)
        ],
        annotations=[],
        categories=[dict(id=i, name=name) for i, name in zip(ids, classes)],
    )
    for image in content['images']:
        for name, x1, y1, x2, y2 in BOXES[image['file_name']]:
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 50,
                    image_id=image['id'],
                    category_id=ids[classes.index(name)],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                )
            )
    return content


def write_coco(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')


def voc(name, objects=None, size=(WIDTH, HEIGHT), filename=None):
    """An XML file's text; its pixels count from 1 and include the last."""
    objects = BOXES[name] if objects is None else objects
    parts = [f'<annotation><filename>{name if filename is None else filename}</filename>']
    parts.append(f'<size><width>{size[0]}</width><height>{size[1]}</height></size>')
    for label, x1, y1, x2, y2 in objects:
        parts.append(
            f'<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin>'
            f'<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        )
    return ''.join([*parts, '</annotation>'])


def yolo(name):
    """A label file's text."""
    lines = []
    for label, x1, y1, x2, y2 in BOXES[name]:
        numbers = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT)
        numbers += ((x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
        lines.append(' '.join(map(str, (CLASSES.index(label), *numbers))))
    return '\n'.join(lines)
