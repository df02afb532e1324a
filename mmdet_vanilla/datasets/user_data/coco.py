"""COCO's JSON (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
import os
from collections import Counter

from .problems import AnnotationError, Problems, printable
from .split import UNKNOWN, Split, make_split, relative_name, usable_name

_NUMBERS = (int, float)
_NAN = math.nan


def load_json(path: str) -> object:
    """Contents of a JSON file, without the masks of annotations that have a box.

    Masks are most of a file, and nothing here needs them.

    Raises:
        AnnotationError: If it cannot be read or is not JSON.
    """

    def without_mask(item: dict) -> dict:
        if 'segmentation' in item and 'bbox' in item:
            del item['segmentation']
        return item

    try:
        with open(path, 'rb') as file:
            return json.loads(file.read(), object_hook=without_mask)
    except FileNotFoundError:
        raise AnnotationError(f'no annotation file at {path}.') from None
    except (ValueError, RecursionError, OSError) as error:
        raise AnnotationError(
            f'{path} is not a JSON file: {printable(error) or type(error).__name__}.'
        ) from None


def read_coco(path: str, image_dir: str, allow_outside: bool = False) -> Split:
    """Reads a COCO annotation file.

    Args:
        path: The file.
        image_dir: Folder that the file names are relative to.
        allow_outside: Whether file names may lead out of ``image_dir``.

    Returns:
        The split, with what is wrong with it.

    Raises:
        AnnotationError: If the file is not such a file at all.
    """
    images, annotations, categories = _sections(path, load_json(path))
    problems = Problems()
    classes, label_of = _read_categories(categories, problems)
    file_names, sizes, index_of = _read_images(images, image_dir, allow_outside, problems)
    if not images:
        raise AnnotationError(f'{path} lists no image.')

    boxes, positions = [], []
    ids = Counter()
    for position, item in enumerate(annotations):
        box = _read_annotation(item, position, index_of, label_of, problems)
        if box is not None:
            boxes.append(box)
            positions.append(position)
            ids[_key(item.get('id', position))] += 1
    if len(ids) < len(boxes):
        shared = [(name, count) for name, count in ids.items() if count > 1]
        for name, count in shared:
            problems.add('duplicate-annotation-id', f'id {name}', count)

    def locate(index: int) -> str:
        item = annotations[positions[index]]
        return (
            f'annotation {item.get("id", f"[{positions[index]}]")}: image_id '
            f'{item.get("image_id")}, category_id {item.get("category_id")}, '
            f'bbox {item.get("bbox")}'
        )

    return make_split(path, image_dir, classes, file_names, sizes, boxes, locate, problems)


def _sections(path: str, content: object) -> list[list]:
    if not isinstance(content, dict):
        raise AnnotationError(
            f'{path} is not a COCO annotation file: expected a dict with images, annotations and '
            f'categories, got a {type(content).__name__}.'
        )
    sections = []
    for name in ('images', 'annotations', 'categories'):
        section = content.get(name)
        if not isinstance(section, list):
            got = type(section).__name__ if name in content else 'nothing'
            raise AnnotationError(
                f'{path} is not a COCO annotation file: expected a list under {name!r}, got {got}.'
            )
        sections.append(section)
    return sections


def _key(value: object) -> object:
    """An id as something that a dict can hold, ``None`` if it is no id."""
    if isinstance(value, float) and not value.is_integer():
        return None
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None


def _read_categories(categories: list, problems: Problems) -> tuple[list[str], dict]:
    classes, label_of = [], {}
    for position, item in enumerate(categories):
        if not isinstance(item, dict):
            problems.add('malformed-category', f'categories[{position}] is {item!r}')
            continue
        key, name = _key(item.get('id')), item.get('name')
        if key is None or not usable_name(name):
            problems.add('malformed-category', f'categories[{position}] is {item!r}')
            continue
        if key in label_of:
            problems.add('duplicate-category-id', f'id {key}: {classes[label_of[key]]} and {name}')
            continue
        if name in classes:
            problems.add('duplicate-category-name', f'{name}: id {key}')
        else:
            classes.append(name)
        label_of[key] = classes.index(name)
    if not classes:
        problems.add('malformed-category', 'there is none')
    return classes, label_of


def _read_images(
    images: list, image_dir: str, allow_outside: bool, problems: Problems
) -> tuple[list[str], list[tuple[int, int]], dict]:
    file_names, sizes, index_of, index_of_name = [], [], {}, {}
    for position, item in enumerate(images):
        key = _key(item.get('id')) if isinstance(item, dict) else None
        if key is None or not usable_name(item.get('file_name')):
            problems.add('malformed-image', f'images[{position}] is {item!r}')
            continue
        if key in index_of:
            problems.add('duplicate-image-id', f'id {key}')
            continue
        name, escapes = relative_name(item['file_name'], image_dir)
        if escapes and not allow_outside:
            problems.add('path-escape', item['file_name'])
            continue
        if name in index_of_name:
            problems.add('duplicate-file', name)
            index_of[key] = index_of_name[name]
            continue
        index_of[key] = index_of_name[name] = len(file_names)
        file_names.append(name)
        sizes.append((_side(item.get('width')), _side(item.get('height'))))
    return file_names, sizes, index_of


def _side(value: object) -> int:
    """A width or height, 0 if it is none."""
    if type(value) not in _NUMBERS or not 0 < value < 2**31 or value != int(value):
        return 0
    return int(value)


def _read_annotation(
    item: object, position: int, index_of: dict, label_of: dict, problems: Problems
) -> tuple | None:
    if type(item) is not dict:
        problems.add('malformed-annotation', f'annotations[{position}] is {item!r}')
        return None
    image, category = _key(item.get('image_id')), _key(item.get('category_id'))
    box = item.get('bbox')
    if not box and item.get('segmentation'):
        box = _box_of_polygons(item['segmentation'])
        if box:
            problems.add('box-of-polygon', f'annotations[{position}]')
    if (
        image is None
        or category is None
        or type(box) is not list
        or len(box) != 4
        or any(type(number) not in _NUMBERS for number in box)
    ):
        shown = {key: item.get(key) for key in ('id', 'image_id', 'category_id', 'bbox')}
        problems.add('malformed-annotation', f'annotations[{position}] is {shown!r}')
        return None
    crowd = item.get('iscrowd', 0)
    if isinstance(crowd, str) and crowd in ('0', '1'):
        crowd = int(crowd)
    if crowd not in (0, 1, None):
        problems.add('bad-flag', f'annotations[{position}]: iscrowd is {crowd!r}')
        crowd = 1
    ignored = bool(crowd) or bool(item.get('ignore', 0))
    if ignored:
        problems.add('crowd', f'annotations[{position}]')
    area = item.get('area')
    return (
        index_of.get(image, UNKNOWN),
        label_of.get(category, UNKNOWN),
        *map(_float, box),
        ignored,
        _float(area) if type(area) in _NUMBERS and area > 0 else _NAN,
    )


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _box_of_polygons(polygons: object) -> list[float] | None:
    """x, y, width, height around polygons [[x, y, x, y, ...], ...]."""
    if not isinstance(polygons, list):
        return None
    xs, ys = [], []
    for polygon in polygons:
        if not isinstance(polygon, list) or any(type(n) not in _NUMBERS for n in polygon):
            return None
        xs += polygon[0::2]
        ys += polygon[1::2]
    if not ys or len(xs) != len(ys):
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def is_coco(path: str) -> bool:
    """Whether a file's name says that it may hold COCO annotations."""
    return path.lower().endswith('.json') and not os.path.basename(path).startswith('.')
