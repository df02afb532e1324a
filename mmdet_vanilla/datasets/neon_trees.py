"""NEON tree crowns: aerial photographs with boxes drawn by people, from the package deepforest.

``pip download --no-deps deepforest==2.1.0`` gets a wheel of 21 MB whose ``deepforest/data`` holds
four annotated photographs (MIT licence; imagery of the National Ecological Observatory Network).
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from ..utils.errors import UserError
from ..utils.images import read_image
from .user_data import Split, read_voc, repair, write_coco
from .user_data.split import make_split

CLASSES = ('Tree',)
# By photograph, so that no tree is in two splits.
SPLITS = dict(
    train=('2019_YELL_2_528000_4978000_image_crop2',),
    val=('2019_YELL_2_541000_4977000_image_crop',),
    test=('OSBS_029', 'SOAP_061'),
)
# Of a crown that is cut by the edge of a tile, less than this is neither learnt nor counted.
_LEAST_VISIBLE = 0.5


class NeonTreesError(UserError, ValueError):
    """The source does not hold the photographs."""


def convert(source: Path, out_dir: Path, tile: int = 400) -> dict[str, tuple[int, int]]:
    """Cuts the photographs into tiles, in COCO format.

    Args:
        source: The wheel, or a folder with its ``deepforest/data``.
        out_dir: Folder to write: ``train.json``, ``train/*.png``, ... What is in ``train``, ``val``
            and ``test`` is replaced.
        tile: Side of a tile in pixels, >= 32. Tiles overlap as much as it takes to cover a
            photograph.

    Returns:
        Number of tiles and of boxes by split.

    Raises:
        NeonTreesError: If a photograph is missing, or ``tile`` is too small.
    """
    if tile < 32:
        raise NeonTreesError(f'tile={tile}: expected at least 32 pixels.')
    with tempfile.TemporaryDirectory() as scratch:
        folder = _data_folder(source, Path(scratch))
        counts = {}
        for name, photographs in SPLITS.items():
            shutil.rmtree(out_dir / name, ignore_errors=True)
            (out_dir / name).mkdir(parents=True)
            tiles = _cut(_read(folder, photographs), out_dir / name, tile)
            write_coco(tiles, CLASSES, str(out_dir / f'{name}.json'))
            counts[name] = len(tiles.file_names), int((~tiles.ignored).sum())
        return counts


def _data_folder(source: Path, scratch: Path) -> Path:
    if source.is_file() and zipfile.is_zipfile(source):
        wanted = {name for names in SPLITS.values() for name in names}
        with zipfile.ZipFile(source) as wheel:
            for member in wheel.infolist():
                path = Path(member.filename)
                if path.stem in wanted and path.suffix in ('.png', '.xml'):
                    (scratch / path.name).write_bytes(wheel.read(member))
        return scratch
    for folder in (source, source / 'deepforest' / 'data', source / 'data'):
        if (folder / f'{SPLITS["test"][0]}.xml').is_file():
            return folder
    raise NeonTreesError(
        f'{source} is neither the wheel of deepforest nor a folder with its data: get it by '
        '"pip download --no-deps deepforest==2.1.0".'
    )


def _read(folder: Path, photographs: tuple[str, ...]) -> Split:
    files = [str(folder / f'{name}.xml') for name in photographs]
    for file in files:
        if not Path(file).is_file() or not Path(file).with_suffix('.png').is_file():
            raise NeonTreesError(
                f'{Path(file).name} or its photograph is missing in {folder}: expected the data of '
                'deepforest 2.1.0.'
            )
    split = repair(read_voc(files, str(folder), str(folder)))
    split.problems.raise_if_fatal(str(folder))
    return split


def _cut(split: Split, folder: Path, tile: int) -> Split:
    """Writes the tiles of a split's photographs; alive, dead or neither, a tree is a tree."""
    names, sizes, boxes = [], [], []
    for index, name in enumerate(split.file_names):
        image = read_image(split.path(index))
        own = split.boxes[split.image_index == index]
        low, high = own[:, :2], own[:, :2] + own[:, 2:]
        for y in _starts(image.shape[0], tile):
            for x in _starts(image.shape[1], tile):
                patch = image[y : y + tile, x : x + tile]
                size = patch.shape[1::-1]
                inside_low = np.clip(low - (x, y), 0, size)
                inside = np.clip(high - (x, y), 0, size) - inside_low
                visible = inside.prod(1) / own[:, 2:].prod(1)
                for i in np.flatnonzero((inside >= 1).all(1)):
                    ignored = visible[i] < _LEAST_VISIBLE
                    area = inside[i].prod()
                    boxes.append((len(names), 0, *inside_low[i], *inside[i], ignored, area))
                names.append(f'{Path(name).stem}_{x}_{y}.png')
                sizes.append(size)
                cv2.imwrite(str(folder / names[-1]), patch)
    return make_split(
        split.source, str(folder), list(CLASSES), names, sizes, boxes, str, split.problems
    )


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of as few tiles as cover a side."""
    count = math.ceil(length / tile)
    return np.linspace(0, max(0, length - tile), count).round().astype(int).tolist()
