"""YOLO's text files: a line per box, class and centre, width and height as shares of the image."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import yaml

from ...utils.images import ImageError, image_size
from .problems import AnnotationError, Problems, printable
from .split import UNKNOWN, Split, make_split, usable_name

_LARGEST_FILE = 20_000_000
_NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', 'classes.names', '_darknet.labels')
# Rounding and boxes that were drawn a little too far are cut; pixels are beyond any doubt.
_FAR_BEYOND = 2.0


def read_yaml(path: str) -> dict:
    """A data set's YAML file.

    Raises:
        AnnotationError: If it is none.
    """
    try:
        if os.path.getsize(path) > _LARGEST_FILE:
            raise AnnotationError(f'{path} has more than {_LARGEST_FILE} bytes.')
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f'{path} is not a YAML file: {printable(error)}') from None
    if not isinstance(content, dict):
        raise AnnotationError(f'{path}: expected names and folders, got {type(content).__name__}.')
    return content


def names_file(root: str) -> str | None:
    """The text file with a name of a class per line, if there is one."""
    for folder in (root, os.path.join(root, 'labels'), os.path.join(root, 'data')):
        for name in _NAME_FILES:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None


def read_names(root: str, content: dict | None = None) -> list[str]:
    """Names of the classes, from the YAML file or from a text file with a name per line.

    Args:
        root: Folder of the data set.
        content: Of the YAML file, if there is one.

    Raises:
        AnnotationError: If there are none, or they cannot be names.
    """
    names = (content or {}).get('names')
    where = 'names in the YAML file'
    if names is None:
        path = names_file(root)
        if path is not None:
            where = path
            names = [line.strip() for line in _lines(path) if line.strip()]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise AnnotationError(
                f'{where}: expected a name for each of 0..{len(names) - 1}, got the numbers '
                f'{printable(list(names))[:200]}.'
            )
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise AnnotationError(
            f'no names of classes in {root}: write them into data.yaml (names: [cat, dog]) or, one '
            f'a line, into classes.txt, in the order of their numbers.'
        )
    names = [str(name) if isinstance(name, (int, float)) else name for name in names]
    bad = [name for name in names if not usable_name(name)]
    if bad or len(set(names)) < len(names):
        raise AnnotationError(
            f'{where}: expected different names that are not blank, got {printable(names)[:200]}.'
        )
    return names


def read_yolo(
    images: Sequence[str],
    label_files: Sequence[str],
    image_dir: str,
    classes: Sequence[str],
    source: str,
) -> Split:
    """Reads YOLO label files. A polygon becomes the box around it.

    Args:
        images: Names of the images below ``image_dir``.
        label_files: Path of the label file of each; it may be missing: an image without boxes.
        image_dir: Folder of the images.
        classes: Names of the classes.
        source: What is read, for messages.

    Returns:
        The split, with what is wrong with it. Images without a readable header have size 0.

    Raises:
        AnnotationError: If there is no image.
    """
    if not images:
        raise AnnotationError(f'{source} holds no image.')
    problems = Problems()
    sizes, boxes, owners = [], [], []
    for index, (name, path) in enumerate(zip(images, label_files)):
        try:
            width, height = image_size(os.path.join(image_dir, name))
        except ImageError:
            width = height = 0  # named when the sizes are completed
        sizes.append((width, height))
        if not os.path.isfile(path):
            continue
        try:
            lines = _lines(path)
        except AnnotationError as error:
            problems.add('malformed-file', str(error))
            continue
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            parsed = _parse(line)
            if parsed is None:
                problems.add(
                    'malformed-file',
                    f'{path}, line {number}: {line.strip()[:60]!r}, expected a class and four '
                    'numbers, or a polygon',
                )
                continue
            label, (cx, cy, w, h) = parsed
            if any(abs(value) > _FAR_BEYOND for value in (cx, cy, w, h) if math.isfinite(value)):
                problems.add('pixel-boxes', f'{path}, line {number}: {line.strip()[:60]}')
                continue
            known = label if 0 <= label < len(classes) else UNKNOWN
            box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
            boxes.append((index, known, *box, False, math.nan))
            owners.append((path, number, line.strip()))

    def locate(i: int) -> str:
        return '{}, line {}: {}'.format(*owners[i])

    return make_split(
        source, image_dir, list(classes), list(images), sizes, boxes, locate, problems
    )


def _lines(path: str) -> list[str]:
    try:
        if os.path.getsize(path) > _LARGEST_FILE:
            raise AnnotationError(f'{path} has more than {_LARGEST_FILE} bytes.')
        with open(path, encoding='utf-8-sig') as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path} cannot be read as text: {printable(error)}.') from None


def _parse(line: str) -> tuple[int, tuple[float, ...]] | None:
    """Class and centre, width, height of a line; ``None`` if it is malformed."""
    try:
        label, *numbers = map(float, line.split())
    except ValueError:
        return None
    if not math.isfinite(label) or label != int(label):
        return None
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        x1, x2 = min(numbers[0::2]), max(numbers[0::2])
        y1, y2 = min(numbers[1::2]), max(numbers[1::2])
        numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    if len(numbers) != 4:
        return None
    return int(label), tuple(numbers)
