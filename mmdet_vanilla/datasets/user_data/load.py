"""A user's data set as COCO files that mmdet reads, made once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .layout import Source, find_splits
from .problems import AnnotationError, Problems, printable, sentence
from .repair import repair, subset
from .split import Split

# Changes when the same files give other results.
_VERSION = 2
_HELD_OUT = 0.2
_CACHE = '.mmdet_vanilla'


@dataclass(frozen=True)
class LoadedSplit:
    """A split as mmdet's ``CocoDataset`` reads it.

    Attributes:
        ann_file: Absolute path of a COCO file in canonical form: images, boxes and classes are
            numbered from 1, the classes in the order of ``UserData.classes``.
        image_dir: Absolute path of the folder of its images.
        num_images: Number of images.
        num_boxes: Number of boxes that are learnt.
        most_boxes: Most boxes of an image.
    """

    ann_file: str
    image_dir: str
    num_images: int
    num_boxes: int
    most_boxes: int

    def image_paths(self) -> list[str]:
        """Paths of its images."""
        with open(self.ann_file, encoding='utf-8') as file:
            images = json.load(file)['images']
        return [os.path.join(self.image_dir, image['file_name']) for image in images]


@dataclass(frozen=True)
class UserData:
    """A data set.

    Attributes:
        root: Where it is.
        kind: ``'COCO'``, ``'VOC'`` or ``'YOLO'``.
        classes: Names of the classes, in the order of the labels.
        splits: By ``'train'``, ``'val'`` and ``'test'``, what was asked for and found.
        notes: What a user should know: what was repaired, and what is unusual.
    """

    root: str
    kind: str
    classes: tuple[str, ...]
    splits: dict[str, LoadedSplit]
    notes: tuple[str, ...]

    def summary(self) -> list[str]:
        """The data set in sentences."""
        shown = ', '.join(map(printable, self.classes[:10]))
        more = ', ...' if len(self.classes) > 10 else ''
        lines = [f'{self.root}: {self.kind}, {len(self.classes)} classes ({shown}{more}).']
        for name, split in self.splits.items():
            lines.append(
                f'{name}: {split.num_images} images in {split.image_dir}, {split.num_boxes} boxes.'
            )
        return lines + list(self.notes)


def read_splits(
    root: str,
    annotations: dict[str, str | None] | None = None,
    img_dir: str | None = None,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    processes: int = 1,
) -> tuple[dict[str, Source], dict[str, Split]]:
    """Finds and reads all splits, as they are written.

    Args:
        root: See :func:`find_splits`, as the others.
        annotations: COCO files by split.
        img_dir: Folder of the images.
        classes: Names of the classes of VOC files.
        allow_outside: Whether file names may lead out of the image folder.
        processes: Processes that read XML files at the same time.

    Returns:
        Sources and splits by name.

    Raises:
        AnnotationError: If there are none, or they cannot be read.
    """
    sources = find_splits(root, annotations, img_dir, classes, allow_outside, processes)
    return sources, {name: source.read() for name, source in sources.items()}


def load_user_data(
    root: str,
    splits: Sequence[str] = ('train', 'val'),
    annotations: dict[str, str | None] | None = None,
    img_dir: str | None = None,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    processes: int = 1,
) -> UserData:
    """Reads, checks, repairs and converts a data set; what was converted before is reused.

    The converted files are in ``ROOT/.mmdet_vanilla``, or in the user's cache folder where that
    cannot be written.

    Args:
        root: Folder of the data set, or its annotation or YAML file.
        splits: Which are needed. A missing ``'test'`` is replaced by ``'val'``, a missing
            ``'val'`` by a fifth of ``'train'``, which is chosen by the images' names and left out
            of it. A ``'test'`` without ``'val'`` is that fifth, too, since a model was trained on
            the others.
        annotations: By split, COCO files to take instead of looking for any.
        img_dir: Folder of the images, or of one per split.
        classes: Names that the classes must have, in this order, for instance a checkpoint's.
        allow_outside: Whether file names may lead out of the image folder.
        processes: Processes that read XML files at the same time.

    Returns:
        The data set.

    Raises:
        AnnotationError: If the data cannot be found or must not be used; it says why.
    """
    sources = find_splits(root, annotations, img_dir, None, allow_outside, processes)
    folder = _cache_folder(root, sources, splits, classes, allow_outside)
    index = os.path.join(folder, 'index.json')
    stored = _load_index(index)
    if stored is None:
        stored = _convert(root, sources, splits, classes, folder)
        _write_json(index, stored)
    return UserData(
        root=str(root),
        kind=next(iter(sources.values())).kind,
        classes=tuple(stored['classes']),
        splits={name: LoadedSplit(**split) for name, split in stored['splits'].items()},
        notes=tuple(stored['notes']),
    )


def _cache_folder(
    root: str,
    sources: dict[str, Source],
    splits: Sequence[str],
    classes: Sequence[str] | None,
    allow_outside: bool,
) -> str:
    digest = hashlib.sha256(repr((_VERSION, splits, classes, allow_outside)).encode())
    for name, source in sorted(sources.items()):
        digest.update(f'{name}\0{source.image_dir}\0'.encode('utf-8', 'surrogateescape'))
        # A folder's time changes as images come and go.
        for path in (*source.files, source.image_dir):
            status = os.stat(path)
            text = f'{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\0'
            digest.update(text.encode('utf-8', 'surrogateescape'))
    base = os.path.join(root if os.path.isdir(root) else os.path.dirname(root) or '.', _CACHE)
    try:
        os.makedirs(base, exist_ok=True)
        if not os.access(base, os.W_OK):
            raise OSError
    except OSError:
        home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
        base = os.path.join(home, 'mmdet_vanilla', 'data')
    return os.path.join(os.path.abspath(base), digest.hexdigest()[:16])


def _load_index(path: str) -> dict | None:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        complete = all(os.path.isfile(s['ann_file']) for s in content['splits'].values())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if complete else None


def _convert(
    root: str,
    sources: dict[str, Source],
    wanted: Sequence[str],
    classes: Sequence[str] | None,
    folder: str,
) -> dict:
    notes: list[str] = []
    read = {}
    for name in _needed(sources, wanted):
        split = repair(sources[name].read())
        split.problems.raise_if_fatal(split.source)
        read[name] = split
    names = _class_names(read, classes, notes)
    parts = _assign(root, read, wanted, notes)
    for name, split in read.items():
        notes += [f'{name}: {sentence(kind, found)}' for kind, found in split.problems]
    stored = {}
    for name, split in parts.items():
        path = os.path.join(folder, f'{name}.json')
        write_coco(split, names, path)
        counts = split.boxes_per_image()
        stored[name] = dict(
            ann_file=path,
            image_dir=os.path.abspath(split.image_dir),
            num_images=len(split.file_names),
            num_boxes=int(counts.sum()),
            most_boxes=int(counts.max()),
        )
    return dict(classes=names, splits=stored, notes=notes)


def _needed(sources: dict[str, Source], wanted: Sequence[str]) -> list[str]:
    """Which splits have to be read for those that are wanted."""
    needed = []
    for name in wanted:
        substitutes = dict(train=(), val=('train',), test=('val', 'train'))[name]
        found = next((s for s in (name, *substitutes) if s in sources), None)
        if found is None:
            raise AnnotationError(
                f'no {name} split found, only {", ".join(sources)}: name its annotations by '
                f'--{name}-ann.'
            )
        if found not in needed:
            needed.append(found)
    return needed


def _class_names(
    read: dict[str, Split], required: Sequence[str] | None, notes: list[str]
) -> list[str]:
    names = list(dict.fromkeys(name for split in read.values() for name in split.classes))
    if required is not None:
        required = list(required)
        problems = Problems()
        for split in read.values():
            for label in np.unique(split.labels):
                if split.classes[label] not in required:
                    problems.add('unknown-category', split.classes[label])
        if 'unknown-category' in problems:
            foreign = sorted({name for name in problems['unknown-category'].examples})
            raise AnnotationError(
                f'the data have boxes of classes that the model does not know: '
                f'{", ".join(foreign)}. It knows {", ".join(map(printable, required[:20]))}.'
            )
        names = required
    if not names:
        raise AnnotationError('no class found: the annotations hold no box and declare no class.')
    if 'train' in read:
        train = read['train']
        used = {train.classes[label] for label in np.unique(train.labels[~train.ignored])}
        missing = [
            name
            for split in read.values()
            for name in {split.classes[label] for label in np.unique(split.labels)}
            if name not in used
        ]
        if missing:
            shown = ', '.join(map(printable, sorted(set(missing))[:10]))
            notes.append(f'Without a box in the training data, so never learnt: {shown}.')
    return names


def _assign(
    root: str, read: dict[str, Split], wanted: Sequence[str], notes: list[str]
) -> dict[str, Split]:
    parts = dict(read)
    missing = {'val', 'test'}.intersection(wanted) - read.keys()
    if missing and 'val' not in read:
        train = read['train']
        held_out = _held_out(train.file_names)
        if held_out.all():
            notes.append('There is a single image: it is trained on and evaluated on.')
            parts['val'] = train
        else:
            share = f'{held_out.sum()} of {len(held_out)} images, chosen by name,'
            if 'train' in wanted or 'val' in wanted:
                notes.append(
                    f'No validation split found in {root}: {share} are kept for validation and not '
                    'trained on. To choose yourself, make folders or files named train and val, or '
                    'use --val-ann.'
                )
            else:
                notes.append(
                    f'No test or validation split found in {root}: evaluating on {share} which '
                    'training keeps for validation. To evaluate on all, make a folder or file '
                    'named test, or use --test-ann.'
                )
            parts.update(train=subset(train, ~held_out), val=subset(train, held_out))
    if 'test' in wanted and 'test' not in read:
        if 'val' in read and 'train' not in wanted:
            notes.append('No test split found: evaluating on val.')
        parts['test'] = parts['val']
    return {name: parts[name] for name in wanted}


def _held_out(names: Sequence[str]) -> np.ndarray:
    """(N,) a fifth of the images, whatever their order."""
    order = sorted(range(len(names)), key=lambda i: (zlib.crc32(names[i].encode()), names[i]))
    chosen = np.zeros(len(names), bool)
    chosen[order[: max(1, round(_HELD_OUT * len(names)))]] = True
    return chosen


def write_coco(split: Split, classes: Sequence[str], path: str) -> None:
    """Writes a repaired split as a COCO file; the path holds a whole file or none.

    Args:
        split: Repaired.
        classes: Names of the classes, in the order of their numbers from 1.
        path: File to write.
    """
    category = {name: i + 1 for i, name in enumerate(classes)}
    category_of = np.array([category.get(name, 0) for name in split.classes] or [0])
    images = [
        dict(id=i + 1, file_name=name, width=int(w), height=int(h))
        for i, (name, (w, h)) in enumerate(zip(split.file_names, split.sizes))
    ]
    annotations = [
        dict(id=i + 1, image_id=image + 1, category_id=label, bbox=box, area=area, iscrowd=crowd)
        for i, (image, label, box, area, crowd) in enumerate(
            zip(
                split.image_index.tolist(),
                category_of[split.labels].tolist(),
                split.boxes.tolist(),
                split.areas.tolist(),
                split.ignored.astype(int).tolist(),
            )
        )
    ]
    categories = [dict(id=number, name=name) for name, number in category.items()]
    _write_json(path, dict(images=images, annotations=annotations, categories=categories))


def _write_json(path: str, content: dict) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = f'{path}.{os.getpid()}.part'  # processes of one training may write the same
        with open(part, 'w', encoding='utf-8') as file:
            json.dump(content, file)
        os.replace(part, path)
    except OSError as error:
        raise AnnotationError(f'{path} cannot be written: {error}.') from None
