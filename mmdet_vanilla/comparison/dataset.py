"""One split of a data set, as it is in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmdet_vanilla.utils.atomic import write_text

from .errors import ComparisonError


@dataclass(frozen=True)
class Split:
    """A split of a data set.

    Attributes:
        name: ``'test'``, ``'val'``, ...
        ann_file: COCO annotation file.
        folder: Folder of the images.
        content: What the file holds.
    """

    name: str
    ann_file: Path
    folder: Path
    content: dict

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories, in the order of the file."""
        return tuple(category['name'] for category in self.content['categories'])

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Their ids, in the same order."""
        return tuple(category['id'] for category in self.content['categories'])

    def path_of(self, image: dict) -> Path:
        """The file of an entry of ``content['images']``."""
        return self.folder / image['file_name']


def read_split(name: str, ann_file: str | Path, folder: str | Path) -> Split:
    """Reads an annotation file in canonical form, as :func:`load_user_data` writes it.

    Args:
        name: ``'test'``, ``'val'`` or ``'train'``.
        ann_file: COCO file.
        folder: Folder of the images.
    """
    ann_file = Path(ann_file)
    content = json.loads(ann_file.read_text(encoding='utf-8'))
    return Split(name, ann_file, Path(folder), content)


def unreadable_images(split: Split) -> dict[int, str]:
    """Decodes every image once.

    Returns:
        By id of the image: the name of a file that is missing or cannot be decoded.

    Raises:
        ComparisonError: If that is all of them.
    """
    bad = {}
    for image in split.content['images']:
        path = split.path_of(image)
        try:
            # Not imread, which prints a warning for what is missing.
            decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            decoded = None
        if decoded is None:
            bad[image['id']] = image['file_name']
    if len(bad) == len(split.content['images']):
        raise ComparisonError(
            f'none of the {len(bad)} images of {split.ann_file} can be read in {split.folder}: the '
            f'first one is {next(iter(bad.values()))}.'
        )
    return bad


def without_images(split: Split, bad: Sequence[int], folder: Path) -> Split:
    """The split without some images, its annotations written anew if there are any.

    Args:
        split: The split.
        bad: Ids of images to leave out.
        folder: Where to write the annotation file.
    """
    if not bad:
        return split
    content = dict(split.content)
    bad = set(bad)
    content['images'] = [image for image in content['images'] if image['id'] not in bad]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] not in bad]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{split.name}.json'
    write_text(path, json.dumps(content))
    return Split(split.name, path, split.folder, content)


def match_classes(
    classes: Sequence[str] | None, num_classes: int | None, split: Split, who: str
) -> dict[int, int]:
    """Which category every label of a detector stands for.

    By name where all the data's categories are among its classes (further ones are dropped), else
    by order where the numbers agree.

    Args:
        classes: Names of the detector's classes, if known.
        num_classes: Number of its classes, if known.
        split: The data.
        who: What to call the detector in the message.

    Returns:
        Label to id of the category.

    Raises:
        ComparisonError: If they do not fit.
    """
    if classes and (num_classes is None or len(classes) == num_classes):
        if set(split.classes) <= set(classes):
            ids = dict(zip(split.classes, split.category_ids))
            return {i: ids[name] for i, name in enumerate(classes) if name in ids}
    number = num_classes or (len(classes) if classes else None)
    if number == len(split.classes):
        return dict(enumerate(split.category_ids))
    raise ComparisonError(
        f'{who} has {number} classes ({_some(classes)}), but {split.ann_file} has '
        f'{len(split.classes)} ({_some(split.classes)}): use weights that were trained on these '
        'classes, or train by --train.'
    )


def _some(names: Sequence[str] | None) -> str:
    if not names:
        return 'without names'
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
