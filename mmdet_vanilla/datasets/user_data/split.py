"""Annotations of one split in memory, whatever file they came from."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .problems import Problems

UNKNOWN = -1


@dataclass
class Split:
    """Images and boxes as they are written in the annotation files.

    Attributes:
        source: What it was read from, for messages.
        image_dir: Folder of the images.
        classes: Names of the declared classes, all different.
        file_names: N names of images below ``image_dir``.
        sizes: (N, 2) annotated width and height in pixels, 0 where there is none.
        image_index: (M,) index of the image of every box, ``UNKNOWN`` where it is not listed.
        boxes: (M, 4) x, y, width, height in pixels.
        labels: (M,) index into ``classes``, ``UNKNOWN`` where it is not declared.
        ignored: (M,) boxes that are neither learnt nor counted (crowds, difficult ones).
        areas: (M,) annotated area (of a mask), NaN where there is none.
        locate: Says where the box of an index is written.
        problems: What was wrong with it.
    """

    source: str
    image_dir: str
    classes: list[str]
    file_names: list[str]
    sizes: np.ndarray
    image_index: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    locate: Callable[[int], str]
    problems: Problems = field(default_factory=Problems)

    def path(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.image_dir, self.file_names[index])

    def boxes_per_image(self) -> np.ndarray:
        """(N,) number of boxes that are not ignored."""
        known = self.image_index[(self.image_index != UNKNOWN) & ~self.ignored]
        return np.bincount(known, minlength=len(self.file_names))


def make_split(
    source: str,
    image_dir: str,
    classes: list[str],
    file_names: list[str],
    sizes: list,
    boxes: list[tuple],
    locate: Callable[[int], str],
    problems: Problems,
) -> Split:
    """A split of lists.

    Args:
        source: See :class:`Split`, as the others.
        image_dir: Folder of the images.
        classes: Names of the classes.
        file_names: N names.
        sizes: N pairs.
        boxes: M tuples of image index, label, x, y, width, height, ignored, area.
        locate: Says where a box is written.
        problems: Of the reading.
    """
    table = np.array(boxes, dtype=np.float64).reshape(-1, 8)
    return Split(
        source=source,
        image_dir=image_dir,
        classes=classes,
        file_names=file_names,
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        image_index=table[:, 0].astype(np.int64),
        labels=table[:, 1].astype(np.int64),
        boxes=table[:, 2:6],
        ignored=table[:, 6] > 0,
        areas=table[:, 7],
        locate=locate,
        problems=problems,
    )


_DRIVE = re.compile(r'[a-zA-Z]:[/\\]')


def usable_name(name: object) -> bool:
    """Whether something is text that can be a path or be printed."""
    if not isinstance(name, str) or not name.strip() or '\0' in name or len(name) > 4096:
        return False
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def relative_name(name: str, image_dir: str) -> tuple[str, bool]:
    """A file name of an annotation as a path below the image folder.

    Args:
        name: As written; with slashes or, as on Windows, backslashes.
        image_dir: Folder of the images.

    Returns:
        The path, and whether it leads out of the folder.
    """
    path = posixpath.normpath(name.replace('\\', '/'))
    if posixpath.isabs(path) or _DRIVE.match(name):
        inside = posixpath.relpath(path, os.path.abspath(image_dir).replace('\\', '/'))
        if _DRIVE.match(name) or inside.startswith('../') or inside == '..':
            return path, True
        path = inside
    return path, path == '..' or path.startswith('../')
