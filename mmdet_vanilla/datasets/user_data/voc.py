"""Pascal VOC's XML, one file per image."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from .image_index import ImageIndex
from .problems import AnnotationError, Problems, printable
from .split import UNKNOWN, Split, make_split, relative_name, usable_name

LARGEST_FILE = 20_000_000
# Below this a second process costs more than it saves.
_FILES_PER_PROCESS = 5000


def read_voc(
    files: Sequence[str],
    image_dir: str,
    source: str,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    processes: int = 1,
) -> Split:
    """Reads VOC annotation files.

    A box holds the pixels ``xmin`` to ``xmax``, both included and counted from 1, as VOC defines
    it. Entities and document types, of which XML bombs are made, are refused.

    Args:
        files: Paths of the XML files.
        image_dir: Folder of the images.
        source: What is read, for messages.
        classes: Names of the classes; by default those that occur, sorted.
        allow_outside: Whether file names may lead out of ``image_dir``.
        processes: Processes that read files at the same time.

    Returns:
        The split, with what is wrong with it.

    Raises:
        AnnotationError: If there is no file.
    """
    if not files:
        raise AnnotationError(f'{source} holds no XML file.')
    problems = Problems()
    parsed = _parse_all(files, processes)
    names = {name for content in parsed if isinstance(content, tuple) for name, *_ in content[2]}
    declared = list(classes) if classes is not None else sorted(names)
    label_of = {name: label for label, name in enumerate(declared)}
    index = ImageIndex(image_dir)
    file_names, sizes, boxes, owners, seen = [], [], [], [], {}
    for path, content in zip(files, parsed):
        if isinstance(content, str):
            problems.add('malformed-file', content)
            continue
        written, size, objects = content
        name = _image_name(path, written, index, allow_outside, problems)
        if name is None:
            continue
        if name in seen:
            problems.add('duplicate-file', name)
        else:
            seen[name] = len(file_names)
            file_names.append(name)
            sizes.append(size)
        for position, (label, box, difficult) in enumerate(objects):
            if difficult:
                problems.add('difficult', f'{path}, object {position + 1}')
            boxes.append((seen[name], label_of.get(label, UNKNOWN), *box, difficult, math.nan))
            owners.append((path, position, label))

    def locate(i: int) -> str:
        path, position, label = owners[i]
        return f'{path}, object {position + 1}: {label} {boxes[i][2:6]}'

    return make_split(source, image_dir, declared, file_names, sizes, boxes, locate, problems)


def _parse_all(files: Sequence[str], processes: int) -> list:
    if processes < 2 or len(files) < _FILES_PER_PROCESS:
        return list(map(_parse, files))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(_parse), files, chunksize=500))


def _parse(path: str) -> tuple[str, tuple[int, int], list] | str:
    """File name, size and objects (name, x y w h, difficult) of a file, or what is wrong."""
    try:
        if os.path.getsize(path) > LARGEST_FILE:
            return f'{path}: more than {LARGEST_FILE} bytes'
        root = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        return f'{path}: {type(error).__name__}, document types and entities are refused'
    except (ParseError, OSError, ValueError, LookupError, RecursionError) as error:
        return f'{path}: {printable(error)}'
    if root.tag != 'annotation':
        return f'{path}: the root is <{printable(root.tag)}>, expected <annotation>'
    objects = []
    for position, element in enumerate(root.iterfind('object')):
        name = (element.findtext('name') or '').strip()
        box = [_number(element, f'bndbox/{edge}') for edge in ('xmin', 'ymin', 'xmax', 'ymax')]
        if not usable_name(name) or None in box:
            return f'{path}: object {position + 1} lacks a name or one of xmin, ymin, xmax, ymax'
        x1, y1, x2, y2 = box
        difficult = (element.findtext('difficult') or '0').strip() not in ('0', '')
        objects.append((name, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1), difficult))
    size = [_number(root, f'size/{side}') or 0 for side in ('width', 'height')]
    size = tuple(int(side) if 0 < side < 2**31 and side == int(side) else 0 for side in size)
    return (root.findtext('filename') or '').strip(), size, objects


def _number(element: Element, path: str) -> float | None:
    try:
        return float(element.findtext(path))
    except (TypeError, ValueError):
        return None


def _image_name(
    path: str, written: str, index: ImageIndex, allow_outside: bool, problems: Problems
) -> str | None:
    """Name of an annotation file's image below the image folder."""
    if written and not usable_name(written):
        problems.add('malformed-file', f'{path}: the file name {written!r}')
        return None
    if written:
        name, escapes = relative_name(written, index.folder)
        if escapes and not allow_outside:
            problems.add('path-escape', f'{path}: {written}')
            return None
        if name in index:
            return name
    else:
        name = None
    stem = os.path.splitext(os.path.basename(path))[0]
    found = index.by_stem(stem)
    if found is not None:
        problems.add('other-suffix', f'{path}: {written or "no file name"}, found {found}')
        return found
    return name or f'{stem}.jpg'
