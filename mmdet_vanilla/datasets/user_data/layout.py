"""Finds the annotations, the images and the splits in a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from .coco import is_coco, load_json, read_coco
from .image_index import ImageIndex
from .problems import AnnotationError, NoAnnotationsError
from .split import Split, relative_name, usable_name
from .voc import read_voc
from .yolo import names_file, read_names, read_yaml, read_yolo

SPLITS = ('train', 'val', 'test')
_WORDS = dict(
    train=re.compile(r'(?<![a-z])train(ing|val)?(?![a-z])'),
    val=re.compile(r'(?<![a-z])(val|valid|validation|dev)(?![a-z])'),
    test=re.compile(r'(?<![a-z])test(ing)?(?![a-z])'),
)
_DEPTH = 3
_MOST_FOLDERS = 2000
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
# Images that are looked for to recognise a folder.
_SAMPLE = 20
_HINT = (
    'Expected COCO json (train.json or annotations/instances_train*.json, ...), Pascal VOC XML '
    '(Annotations/*.xml, train/*.xml, ...) or YOLO (data.yaml or classes.txt, images/train and '
    'labels/train, ...), or files named by --train-ann and --val-ann.'
)


@dataclass(frozen=True)
class Source:
    """Where a split comes from.

    Attributes:
        kind: ``'COCO'``, ``'VOC'`` or ``'YOLO'``.
        files: Annotation files, and those that name the classes.
        image_dir: Folder of the images.
        read: Reads them.
    """

    kind: str
    files: tuple[str, ...]
    image_dir: str
    read: Callable[[], Split]


def find_splits(
    root: str,
    annotations: dict[str, str | None] | None = None,
    img_dir: str | None = None,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    processes: int = 1,
) -> dict[str, Source]:
    """Finds the splits of a data set.

    Args:
        root: Folder of the data set, or its annotation or YAML file.
        annotations: By split (``'train'``, ``'val'``, ``'test'``), COCO files to take instead of
            looking for any; relative to ``root`` or to the current folder.
        img_dir: Folder of the images, or of a folder of them per split; likewise.
        classes: Names of the classes of VOC files; by default those that occur.
        allow_outside: Whether file names may lead out of the image folder.
        processes: Processes that read XML files at the same time.

    Returns:
        By split; a data set without splits is ``{'train': ...}``.

    Raises:
        NoAnnotationsError: If there is none.
        AnnotationError: If several could be meant, or the only ones are damaged.
    """
    given = {split: path for split, path in (annotations or {}).items() if path}
    if os.path.isfile(root):
        if root.lower().endswith('.json'):
            given.setdefault('train', os.path.abspath(root))
        root = os.path.dirname(root) or '.'
    if not os.path.isdir(root):
        raise NoAnnotationsError(f'no folder of data at {root} ({os.path.abspath(root)}). {_HINT}')
    if img_dir is not None:
        img_dir = _below(root, img_dir, os.path.isdir, 'image folder')
    folders = _folders(root)
    if given:
        found = {
            split: _below(root, path, os.path.isfile, f'{split} annotation file')
            for split, path in given.items()
        }
        return _coco(root, found, folders, img_dir, allow_outside)
    yaml_file = _yaml_file(root)
    if yaml_file is not None:
        return _yolo(root, yaml_file, folders, img_dir, allow_outside)
    found = _coco_files(root, folders)
    if found:
        return _coco(root, found, folders, img_dir, allow_outside)
    read = partial(read_voc, classes=classes, allow_outside=allow_outside, processes=processes)
    sources = _voc(root, folders, img_dir, read)
    if sources:
        return sources
    if any(_label_folder(folder) for folder in folders):
        return _yolo(root, None, folders, img_dir, allow_outside)
    for path in [path for folder in folders for path in _files(folder) if is_coco(path)]:
        load_json(path)  # says what is wrong with one that is damaged
    raise NoAnnotationsError(f'no annotations found in {os.path.abspath(root)}. {_HINT}')


def split_of(path: str, root: str) -> str | None:
    """The split that a path names, by its last part that names one."""
    parts = os.path.relpath(path, root).lower().split(os.sep)
    for part in reversed(parts):
        part = os.path.splitext(part)[0]
        for split in SPLITS:
            if _WORDS[split].search(part):
                return split
    return None


def _below(root: str, path: str, exists: Callable[[str], bool], what: str) -> str:
    for candidate in (os.path.join(root, path), path):
        if exists(candidate):
            return candidate
    raise NoAnnotationsError(f'no {what} at {os.path.join(root, path)}, nor at {path}.')


def _folders(root: str) -> list[str]:
    """The folder and those below it, nearest first."""
    found = []
    layer = [root]
    for _ in range(_DEPTH + 1):
        found += layer
        below = []
        for folder in layer:
            with os.scandir(folder) as entries:
                below += sorted(
                    entry.path
                    for entry in entries
                    if entry.is_dir() and not entry.name.startswith(('.', '__'))
                )
        layer = below
        if len(found) > _MOST_FOLDERS:
            raise AnnotationError(
                f'{root} has more than {_MOST_FOLDERS} folders: name the one of the data set.'
            )
    return found


def _files(folder: str) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_file())


# ---------------------------------------------------------------------------------------- COCO


def _coco_files(root: str, folders: Iterable[str]) -> dict[str, str]:
    """COCO files by split."""
    files = [path for folder in folders for path in _files(folder) if is_coco(path)]
    by_split: dict[str | None, list[str]] = {}
    for path in files:
        by_split.setdefault(split_of(path, root), []).append(path)
    named = {split: paths for split, paths in by_split.items() if split is not None}
    if not named and files:
        named = {'train': files}
    chosen = {}
    for split, paths in named.items():
        # Beside the boxes, COCO has captions and key points of the same images.
        instances = [path for path in paths if os.path.basename(path).startswith('instances')]
        paths = instances or paths
        # COCO's test images come without annotations; a damaged file is named when it is read.
        most_missing = 0 if split == 'test' else 1
        candidates = [path for path in paths if _missing_parts(path) <= most_missing]
        if not candidates and len(paths) == 1 and 'train' in by_split:
            candidates = paths
        if len(candidates) > 1:
            raise AnnotationError(
                f'several files in {root} could be the {split} annotations: '
                f'{", ".join(os.path.relpath(path, root) for path in candidates)}. Choose by '
                f'--train-ann, --val-ann and --test-ann.'
            )
        if candidates:
            chosen[split] = candidates[0]
    # Reading says what is wrong with a damaged file, rather than another split being taken for it.
    for split in named.keys() - chosen.keys() if chosen else ():
        damaged = [path for path in named[split] if _is_damaged(path)]
        if damaged:
            chosen[split] = damaged[0]
    return chosen


def _is_damaged(path: str) -> bool:
    """Whether a file has some of COCO's parts, but is not JSON."""
    if _missing_parts(path) == 3:
        return False
    try:
        load_json(path)
    except AnnotationError:
        return True
    return False


def _missing_parts(path: str) -> int:
    """How many of the three parts of COCO's format a file does not mention."""
    words = {b'"images"', b'"annotations"', b'"categories"'}
    tail = b''
    with open(path, 'rb') as file:
        while words and (block := file.read(1 << 20)):
            block = tail + block
            words = {word for word in words if word not in block}
            tail = block[-20:]
    return len(words)


def _coco(
    root: str,
    found: dict[str, str],
    folders: Sequence[str],
    img_dir: str | None,
    allow_outside: bool,
) -> dict[str, Source]:
    sources = {}
    for split, path in found.items():
        names = _first_file_names(path)
        image_dir = _image_folder(names, split, path, root, folders, img_dir)
        sources[split] = Source(
            'COCO',
            (path,),
            image_dir,
            partial(read_coco, path, image_dir, allow_outside),
        )
    return sources


def _first_file_names(path: str) -> list[str]:
    """Some file names in a COCO file, without reading all of it."""
    names, tail = [], b''
    with open(path, 'rb') as file:
        while len(names) < _SAMPLE and (block := file.read(1 << 20)):
            block = tail + block
            for text in _FILE_NAME.findall(block):
                try:
                    name = json.loads(text)
                except ValueError:
                    continue
                if usable_name(name):
                    names.append(name)
            tail = block[-1000:]
    return names[:_SAMPLE]


def _image_folder(
    names: Sequence[str],
    split: str,
    annotation: str,
    root: str,
    folders: Sequence[str],
    img_dir: str | None,
) -> str:
    """The folder that holds most of some images, preferably one that is named after the split."""
    if img_dir is not None:
        folders = _folders(img_dir)
    folders = list(dict.fromkeys([*folders, os.path.dirname(annotation) or '.']))

    def rank(folder: str) -> tuple[bool, int, bool, bool]:
        hits = 0
        for name in names:
            relative, escapes = relative_name(name, folder)
            hits += not escapes and os.path.isfile(os.path.join(folder, relative))
        # Another split may have images of the same names, and more of them, where some are missing.
        own = split_of(folder, root) == split and 2 * hits >= len(names)
        return own, hits, split_of(folder, root) == split, split_of(folder, root) is None

    best = max(folders, key=rank)
    # Without any hit, reading says that no image was found, and where it looked.
    return best if rank(best)[1] else (img_dir or os.path.dirname(annotation) or '.')


# ----------------------------------------------------------------------------------------- VOC


def _voc(
    root: str, folders: Sequence[str], img_dir: str | None, read: Callable[..., Split]
) -> dict[str, Source]:
    by_folder = {}
    for folder in folders:
        files = [path for path in _files(folder) if path.lower().endswith('.xml')]
        if files:
            by_folder[folder] = files
    if not by_folder:
        return {}
    lists = _image_sets(folders)
    groups: dict[str, list[tuple[str, list[str]]]] = {}
    for folder, files in by_folder.items():
        if lists:
            for split, names in lists.items():
                chosen = [p for p in files if os.path.splitext(os.path.basename(p))[0] in names]
                if chosen:
                    groups.setdefault(split, []).append((folder, chosen))
        else:
            groups.setdefault(split_of(folder, root) or 'train', []).append((folder, files))
    sources = {}
    for split, parts in groups.items():
        if len(parts) > 1:
            raise AnnotationError(
                f'several folders in {root} hold XML files of the {split} split: '
                f'{", ".join(os.path.relpath(folder, root) for folder, _ in parts)}. Name one of '
                'them, or a folder of one, as the data.'
            )
        [(folder, files)] = parts
        image_dir = _folder_by_stem(files, split, root, folders, img_dir)
        stems = {os.path.splitext(os.path.basename(path))[0] for path in files}
        absent = sorted(lists.get(split, frozenset()) - stems)
        sources[split] = Source(
            'VOC', tuple(files), image_dir, partial(_listed, absent, read, files, image_dir, folder)
        )
    return sources


def _listed(absent: Sequence[str], read: Callable[..., Split], *args: object) -> Split:
    """Reads a split whose list names what has no annotation file, too."""
    split = read(*args)
    for name in absent:
        split.problems.add('no-annotation-file', name)
    return split


def _image_sets(folders: Iterable[str]) -> dict[str, frozenset[str]]:
    """Names of the images of every split, where there is a folder ImageSets/Main."""
    found = {}
    for folder in folders:
        if os.path.basename(folder) != 'Main':
            continue
        for split in (*SPLITS, 'trainval'):
            path = os.path.join(folder, f'{split}.txt')
            if os.path.isfile(path):
                with open(path, encoding='utf-8', errors='replace') as file:
                    names = frozenset(line.split()[0] for line in file if line.strip())
                found[split] = names
    both = found.pop('trainval', None)
    if both and 'train' not in found:
        found['train'] = both - found.get('val', frozenset())
    return found


def _folder_by_stem(
    files: Sequence[str],
    split: str,
    root: str,
    folders: Sequence[str],
    img_dir: str | None,
) -> str:
    """The folder with most images named as some annotation files are."""
    if img_dir is not None:
        folders = _folders(img_dir)
    stems = [os.path.splitext(os.path.basename(path))[0] for path in files[:_SAMPLE]]

    def rank(folder: str) -> tuple[int, bool, bool]:
        index = ImageIndex(folder)
        hits = sum(index.by_stem(stem) is not None for stem in stems)
        return hits, split_of(folder, root) == split, split_of(folder, root) is None

    best = max(folders, key=rank)
    return best if rank(best)[0] else (img_dir or os.path.dirname(files[0]))


# ---------------------------------------------------------------------------------------- YOLO


def _yaml_file(root: str) -> str | None:
    files = [path for path in _files(root) if _is_data_yaml(path)]
    preferred = [path for path in files if os.path.basename(path).startswith('data')]
    files = preferred or files
    return files[0] if len(files) == 1 else None


def _is_data_yaml(path: str) -> bool:
    """Whether a file describes a data set; one of that name is, even where it is damaged."""
    if not path.lower().endswith(('.yaml', '.yml')):
        return False
    try:
        return not read_yaml(path).keys().isdisjoint(('names', 'train', 'val'))
    except AnnotationError:
        return os.path.basename(path).startswith('data')


def _label_folder(folder: str) -> str | None:
    """The folder of the label files of an image folder, if there is one."""
    if not ImageIndex(folder).names:
        return None
    parts = os.path.normpath(folder).split(os.sep)
    candidates = [folder]
    if 'images' in parts:
        last = len(parts) - 1 - parts[::-1].index('images')
        candidates.insert(0, os.sep.join([*parts[:last], 'labels', *parts[last + 1 :]]))
    for candidate in candidates:
        if os.path.isdir(candidate) and any(
            path.endswith('.txt') and os.path.basename(path) != 'classes.txt'
            for path in _files(candidate)
        ):
            return candidate
    return None


def _yolo(
    root: str,
    yaml_file: str | None,
    folders: Sequence[str],
    img_dir: str | None,
    allow_outside: bool,
) -> dict[str, Source]:
    content = read_yaml(yaml_file) if yaml_file else {}
    names = read_names(root, content)
    declared = [path for path in (yaml_file, names_file(root)) if path]
    image_folders = {}
    for split in SPLITS:
        entry = content.get(split) or (content.get('valid') if split == 'val' else None)
        if entry is None:
            continue
        if not isinstance(entry, str):
            raise AnnotationError(
                f'{yaml_file}: expected a folder under {split}, got {entry!r}'[:300]
                + '. Lists of folders are not supported: put the images into one.'
            )
        image_folders[split] = _yaml_folder(root, content, entry, yaml_file, allow_outside)
    if not image_folders:
        if img_dir is not None:
            folders = _folders(img_dir)
        for folder in folders:
            if _label_folder(folder):
                split = split_of(folder, root) or 'train'
                if split in image_folders:
                    raise AnnotationError(
                        f'several folders in {root} hold images and labels of the {split} split: '
                        f'{image_folders[split]}, {folder}. Choose by data.yaml.'
                    )
                image_folders[split] = folder
    sources = {}
    for split, folder in image_folders.items():
        labels = _label_folder(folder) or folder
        images = ImageIndex(folder).names
        files = [os.path.join(labels, os.path.splitext(name)[0] + '.txt') for name in images]
        sources[split] = Source(
            'YOLO',
            tuple([*filter(os.path.isfile, files), *declared]),
            folder,
            partial(read_yolo, images, files, folder, names, folder),
        )
    if not sources:
        raise AnnotationError(f'{root}: no folder with images and label files found. {_HINT}')
    return sources


def _yaml_folder(root: str, content: dict, entry: str, yaml_file: str, allow_outside: bool) -> str:
    base = content.get('path') if isinstance(content.get('path'), str) else ''
    # Exports are often written for a folder beside the one that they are in.
    stripped = re.sub(r'^(\.\./)+', '', entry.replace('\\', '/'))
    candidates = [
        os.path.join(root, base, entry),
        os.path.join(root, entry),
        os.path.join(root, stripped),
    ]
    inside = os.path.realpath(root) + os.sep
    for candidate in candidates:
        is_inside = (os.path.realpath(candidate) + os.sep).startswith(inside)
        if os.path.isdir(candidate) and (is_inside or allow_outside):
            return candidate
    outside = [c for c in candidates if os.path.isdir(c)]
    if outside:
        raise AnnotationError(
            f'{yaml_file}: {entry} leads out of {root}: move the images into it, or trust the file '
            'with --allow-outside.'
        )
    tried = dict.fromkeys(map(os.path.normpath, candidates))
    raise AnnotationError(
        f'{yaml_file}: no folder of images at {", ".join(tried)}. Lists of images are not '
        'read: name the folder.'
    )
