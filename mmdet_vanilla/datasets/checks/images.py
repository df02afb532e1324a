"""Opens every image of a data set, in several processes, and compares the pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import cv2

from ...utils.images import ImageError, image_size, read_image
from ..user_data import Problems, Split


class Opened(NamedTuple):
    """What is known of an image after it was decoded."""

    error: str | None
    size: tuple[int, int]  # width and height, upright
    turned: bool  # whether EXIF turns it by 90 degrees or so
    digest: str  # of the pixels


def open_image(path: str) -> Opened:
    """Decodes an image.

    Args:
        path: Of the file.

    Returns:
        Its upright size and a digest of its pixels, or what is wrong with it.
    """
    cv2.setNumThreads(1)
    try:
        image = read_image(path)
        width, height = image_size(path)
        stored = read_image(path, (height, width)) if width != height else image
    except ImageError as error:
        return Opened(str(error), (0, 0), False, '')
    turned = stored.shape != image.shape
    digest = hashlib.blake2b(image.tobytes(), digest_size=16)
    digest.update(repr(image.shape).encode())
    return Opened(None, (width, height), turned, digest.hexdigest())


def open_images(paths: Sequence[str], processes: int) -> Iterator[Opened]:
    """:func:`open_image` of many, in their order."""
    if processes < 2 or len(paths) < 50:
        yield from map(open_image, paths)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(open_image, paths, chunksize=16)


def check_images(
    splits: dict[str, Split],
    processes: int | None = None,
    progress: Callable[[int], object] = lambda advance: None,
) -> None:
    """Adds what is wrong with the images to the problems of their splits.

    Args:
        splits: Repaired splits by name.
        processes: Processes that decode, by default one per core.
        progress: Called with the number of further images that are done.
    """
    first_with: dict[str, tuple[str, str]] = {}
    for split_name, split in splits.items():
        paths = [split.path(index) for index in range(len(split.file_names))]
        opened = open_images(paths, processes or os.cpu_count() or 1)
        for name, size, found in zip(split.file_names, split.sizes, opened):
            progress(1)
            _compare(name, tuple(map(int, size)), found, split.problems)
            if found.error:
                continue
            other_split, other = first_with.setdefault(found.digest, (split_name, name))
            if (other_split, other) != (split_name, name):
                kind = 'duplicate-image' if other_split == split_name else 'leaked-image'
                split.problems.add(kind, f'{name} as {other} of {other_split}')


def _compare(name: str, annotated: tuple[int, int], found: Opened, problems: Problems) -> None:
    if found.error:
        problems.add('unreadable-image', found.error)
    elif found.size != annotated:
        text = (
            f'{name}: {found.size[0]} x {found.size[1]}, annotated {annotated[0]} x {annotated[1]}'
        )
        turned = found.turned and found.size[::-1] == annotated
        problems.add('turned-image' if turned else 'other-size', text)
