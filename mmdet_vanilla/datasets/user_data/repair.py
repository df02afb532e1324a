"""Leaves out and mends what training would stumble on, and records it."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from ...utils.images import ImageError, image_size
from .split import UNKNOWN, Split

_CORNERS_SHARE = 0.2
_LEAST_BOXES_TO_JUDGE = 5
# Boxes that reach out by no more than this are rounded, which is not worth a word.
_ROUNDING = 1.0


def repair(split: Split) -> Split:
    """Checks images and boxes against each other.

    Every image that is left exists and has a size, every box has a known image and class, lies in
    the image and is at least a pixel wide and high. ``split.problems`` gets what was found.

    Args:
        split: As read.

    Returns:
        What can be used of it. Where ``problems.fatal``, nothing is.
    """
    if not split.file_names:  # all were malformed, which is recorded already
        return split
    kept_images, sizes = _usable_images(split)
    if not kept_images.any():
        split.problems.add('no-image', split.path(0), len(kept_images))
    known = split.image_index != UNKNOWN
    _note(split, 'unknown-image', ~known)
    _note(split, 'unknown-category', split.labels == UNKNOWN)
    finite = np.isfinite(split.boxes).all(1)
    _note(split, 'non-finite-box', ~finite)
    usable = known & finite & (split.labels != UNKNOWN)

    size_of = sizes[np.where(known, split.image_index, 0)]
    usable &= size_of.all(1)  # others belong to images that are left out
    _check_unit(split, usable, size_of)
    boxes = np.where(usable[:, None], split.boxes, 0)
    empty = (boxes[:, 2:] <= 0).any(1)
    _note(split, 'empty-box', usable & empty)
    usable &= ~empty
    low = boxes[:, :2]
    high = low + boxes[:, 2:]
    outside = (high <= 0).any(1) | (low >= size_of).any(1)
    _note(split, 'outside-box', usable & outside)
    usable &= ~outside
    beyond = np.maximum(-low, high - size_of).max(1)
    _note(split, 'overhanging-box', usable & (beyond > _ROUNDING))
    low, high = np.clip(low, 0, size_of), np.clip(high, 0, size_of)
    small = (high - low < 1).any(1)
    _note(split, 'small-box', usable & small)
    usable &= ~small

    new_index = np.cumsum(kept_images) - 1
    usable &= kept_images[np.where(known, split.image_index, 0)]
    kept = np.flatnonzero(usable)
    boxes = np.concatenate([low, high - low], 1)[kept]
    areas = np.where(beyond > 0, np.nan, split.areas)[kept]
    repaired = replace(
        split,
        file_names=[name for name, keep in zip(split.file_names, kept_images) if keep],
        sizes=sizes[kept_images],
        image_index=new_index[split.image_index[kept]],
        boxes=boxes,
        labels=split.labels[kept],
        ignored=split.ignored[kept],
        areas=np.where(np.isnan(areas), boxes[:, 2:].prod(1), areas),
        locate=lambda index: split.locate(int(kept[index])),
    )
    _report(repaired)
    return repaired


def subset(split: Split, images: np.ndarray) -> Split:
    """The part of a split with some of its images.

    Args:
        split: Repaired.
        images: (N,) which to keep.
    """
    new_index = np.cumsum(images) - 1
    kept = np.flatnonzero(images[split.image_index])
    return replace(
        split,
        file_names=[name for name, keep in zip(split.file_names, images) if keep],
        sizes=split.sizes[images],
        image_index=new_index[split.image_index[kept]],
        boxes=split.boxes[kept],
        labels=split.labels[kept],
        ignored=split.ignored[kept],
        areas=split.areas[kept],
        locate=lambda index: split.locate(int(kept[index])),
    )


def _usable_images(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Which images exist and have a size, and the sizes."""
    usable = np.ones(len(split.file_names), bool)
    sizes = split.sizes.copy()
    for index, name in enumerate(split.file_names):
        path = split.path(index)
        if not os.path.isfile(path):
            split.problems.add('missing-image', name)
            usable[index] = False
        elif not sizes[index].all():
            try:
                sizes[index] = image_size(path)
                split.problems.add('missing-size', name)
            except ImageError as error:
                split.problems.add('unreadable-header', error)
                usable[index] = False
    return usable, sizes


def _note(split: Split, kind: str, wrong: np.ndarray) -> None:
    indices = np.flatnonzero(wrong)
    for index in indices[:5]:
        split.problems.add(kind, split.locate(int(index)))
    if len(indices) > 5:
        split.problems.add(kind, count=len(indices) - 5)


def _check_unit(split: Split, usable: np.ndarray, size_of: np.ndarray) -> None:
    """Recognises boxes that are not x, y, width, height in pixels."""
    boxes, sizes = split.boxes[usable], size_of[usable]
    if not len(boxes):
        return
    fractional = ((boxes > 0) & (boxes < 1)).any(1)
    if fractional.mean() > 0.5 and (boxes <= 1).all() and (sizes > 2).all():
        _note(split, 'relative-boxes', usable)
    far = (boxes[:, :2] + boxes[:, 2:] > sizes + _ROUNDING).any(1)
    are_corners = (boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= sizes + _ROUNDING)
    if len(boxes) >= _LEAST_BOXES_TO_JUDGE and far.mean() > _CORNERS_SHARE and are_corners.all():
        wrong = np.zeros(len(usable), bool)
        wrong[np.flatnonzero(usable)[far]] = True
        _note(split, 'corner-boxes', wrong)


def _report(split: Split) -> None:
    """What is unusual, but used as it is."""
    without = np.flatnonzero(split.boxes_per_image() == 0)
    for index in without[:5]:
        split.problems.add('image-without-box', split.file_names[index])
    if len(without) > 5:
        split.problems.add('image-without-box', count=len(without) - 5)
    used = np.bincount(split.labels[~split.ignored], minlength=len(split.classes))
    for label in np.flatnonzero(used == 0):
        split.problems.add('unused-category', split.classes[label])
    rows = np.column_stack([split.image_index, split.labels, split.boxes])
    order = np.lexsort(rows.T)
    same = np.zeros(len(rows), bool)
    same[order[1:]] = (rows[order[1:]] == rows[order[:-1]]).all(1)
    _note(split, 'duplicate-box', same)
