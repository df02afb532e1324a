# Copyright (c) mmdet_vanilla contributors. All rights reserved.
"""Digits on paper: real handwritten digits composed into pages with exact boxes.

The 1,797 digits of ``sklearn.datasets.load_digits`` (8x8, grey 0..16) are upsampled into ink
strokes and written on synthetic paper. A page is a function of ``(seed, split, index)`` alone,
so pages can be rendered in any order, in parallel, or one at a time without writing a file.

A box is the tight box around the pixels of a digit whose ink alpha, after warping, exceeds
``ALPHA_THRESHOLD``; ``x2`` and ``y2`` are the last such index + 1.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

GENERATOR_VERSION = '1.0'
ALPHA_THRESHOLD = 0.2
CLASSES = tuple(str(digit) for digit in range(10))
SPLITS = ('train', 'val')
TRAIN_FRACTION = 0.8

_DESCRIPTION = 'Digits on paper'
_SOURCE = 'scikit-learn load_digits, UCI Optical Recognition of Handwritten Digits, BSD/CC-BY'
_GREY_MAX = 16
# Every use of the seed draws from a stream of its own: pages take 0 and 1 (train, val).
_SPLIT_STREAM = 2
_SINGLES_STREAM = 3
# The strokes of smaller glyphs can vanish below the alpha threshold.
_MIN_SIZE = 4
# Glyphs are at most this high and wide relative to the page, so one alone always fits.
_MAX_RELATIVE_SIZE = 0.8
_MAX_RELATIVE_WIDTH = 0.9
_SUPERSAMPLING = 2
_PLACEMENT_TRIES = 60
_IMAGE_NAME = re.compile(r'(\d{6})\.png')

# BGR
_INKS = {
    'black': (34, 30, 28),
    'blue': (150, 52, 26),
    'red': (42, 36, 178),
    'green': (54, 104, 24),
    'pencil': (88, 86, 84),
}
_PAPERS = ((250, 252, 252), (232, 246, 252), (214, 236, 246), (250, 246, 240), (238, 240, 238))
_RULES = ((222, 186, 150), (196, 196, 192), (196, 176, 214), (206, 210, 170))


@dataclass(frozen=True)
class PageStyle:
    """How a page looks.

    Args:
        page_size (int): Side of the square page in pixels, at least 32.
        min_size (float): Smallest glyph height in pixels, at least 4.
        max_size (float): Largest glyph height in pixels, from ``min_size`` to
            0.8 * ``page_size``. Heights are log-uniform between the two.
        max_digits (int): Most digits on one page, >= 1.
        empty_fraction (float): Share of the pages without any digit, in [0, 1].
        max_rotation (float): Largest rotation of a digit either way, in degrees, in [0, 30].
        max_shear (float): Largest horizontal shear either way, in [0, 0.3].
        max_stretch (float): Largest relative change of the width either way, in [0, 0.2].
        gap (int): Smallest distance between two boxes in pixels, >= 0.
        max_noise (float): Largest standard deviation of the sensor noise, in grey levels of
            255, in [0, 32].
        max_blur (float): Largest sigma of the lens blur in pixels, in [0, 4].

    Raises:
        ValueError: If a value lies outside its range.
    """

    page_size: int = 160
    min_size: float = 20.0
    max_size: float = 64.0
    max_digits: int = 8
    empty_fraction: float = 0.02
    max_rotation: float = 10.0
    max_shear: float = 0.15
    max_stretch: float = 0.12
    gap: int = 3
    max_noise: float = 3.0
    max_blur: float = 0.6

    def __post_init__(self) -> None:
        _check_range('page_size', self.page_size, 32, 8192)
        largest = _MAX_RELATIVE_SIZE * self.page_size
        if not self.min_size >= _MIN_SIZE:
            raise ValueError(
                f'min_size is {self.min_size}, expected a height of at least '
                f'{_MIN_SIZE} pixels; raise it, legible digits need about 20'
            )
        if not self.max_size <= largest:
            raise ValueError(
                f'max_size is {self.max_size}, expected at most 0.8 * page_size = '
                f'{largest:g}; lower max_size or raise page_size'
            )
        if not self.min_size <= self.max_size:
            raise ValueError(
                f'min_size is {self.min_size}, expected at most max_size = '
                f'{self.max_size}; lower min_size or raise max_size'
            )
        _check_range('max_digits', self.max_digits, 1, 10_000)
        _check_range('empty_fraction', self.empty_fraction, 0, 1)
        _check_range('max_rotation', self.max_rotation, 0, 30)
        _check_range('max_shear', self.max_shear, 0, 0.3)
        _check_range('max_stretch', self.max_stretch, 0, 0.2)
        _check_range('gap', self.gap, 0, self.page_size)
        _check_range('max_noise', self.max_noise, 0, 32)
        _check_range('max_blur', self.max_blur, 0, 4)


class Placement(NamedTuple):
    """One digit on a page: its ink ``alpha`` float32 (h, w) in [0, 1], put at ``x``, ``y``."""

    alpha: np.ndarray
    x: int
    y: int
    label: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box (x1, y1, x2, y2) on the page, in pixels."""
        x1, y1, x2, y2 = alpha_box(self.alpha)
        return self.x + x1, self.y + y1, self.x + x2, self.y + y2


def load_split(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split the 1,797 digits into train and val, about 80/20 in every class.

    Args:
        seed (int): Seed of the split, >= 0.

    Returns:
        dict[str, tuple[np.ndarray, np.ndarray]]: For 'train' and 'val' the images uint8
        (N, 8, 8) in 0..16 and the labels int64 (N,) in 0..9. No digit is in both.

    Raises:
        ValueError: If ``seed`` is negative.
        ImportError: If scikit-learn is not installed.
    """
    _check_seed(seed)
    return dict(_cached_split(seed))


def render_digit(
    digit: np.ndarray, height: float, rng: np.random.Generator, style: PageStyle
) -> np.ndarray:
    """Render one digit as ink.

    Args:
        digit (np.ndarray): Grey image (8, 8) in 0..16, with some ink.
        height (float): Height of the glyph in pixels after rotation, at least 4. Its box is
            that high within a pixel, lower only if it would be wider than 0.9 of the page.
        rng (np.random.Generator): Source of the rotation, shear, stretch and pressure.
        style (PageStyle): Bounds of these.

    Returns:
        np.ndarray: Ink alpha float32 (h, w) in [0, 1], cropped to the pixels above 0.

    Raises:
        ValueError: If ``digit`` has another shape or range, or is blank, or ``height`` is too
            small.
    """
    _check_range('height', height, _MIN_SIZE, math.inf)
    strokes = _upsample(_check_digit(digit), height * _SUPERSAMPLING)
    angle = math.radians(rng.uniform(-style.max_rotation, style.max_rotation))
    shear = rng.uniform(-style.max_shear, style.max_shear)
    stretch = 1 + rng.uniform(-style.max_stretch, style.max_stretch)
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[stretch, shear], [0, 1]])

    contours, _ = cv2.findContours(
        (strokes > ALPHA_THRESHOLD).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    outline = np.concatenate(contours)[:, 0]
    sheared = np.ptp(outline @ linear.T, axis=0) + 1
    linear *= _SUPERSAMPLING * min(
        height / sheared[1], _MAX_RELATIVE_WIDTH * style.page_size / sheared[0]
    )
    warped = outline @ linear.T
    margin = 3 * _SUPERSAMPLING
    offset = margin - warped.min(axis=0)
    width, rows = (
        math.ceil((extent + 2 * margin) / _SUPERSAMPLING) for extent in np.ptp(warped, axis=0)
    )
    alpha = cv2.warpAffine(
        strokes,
        np.column_stack([linear, offset]),
        (width * _SUPERSAMPLING, rows * _SUPERSAMPLING),
        flags=cv2.INTER_LINEAR,
    )
    alpha = cv2.resize(alpha, (width, rows), interpolation=cv2.INTER_AREA)

    # A pen presses unevenly. The field never reaches so low that a stroke breaks up.
    pressure = cv2.resize(
        rng.uniform(0.8, 1.0, (4, 4)).astype(np.float32),
        (width, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    alpha = np.clip(alpha * pressure, 0, 1)
    alpha[alpha < 1 / 255] = 0
    x1, y1, x2, y2 = alpha_box(alpha, threshold=0)
    return alpha[y1:y2, x1:x2]


def alpha_box(alpha: np.ndarray, threshold: float = ALPHA_THRESHOLD) -> tuple[int, int, int, int]:
    """Tight box around the pixels above a threshold.

    Args:
        alpha (np.ndarray): Ink alpha (h, w).
        threshold (float): Pixels with a larger alpha count as ink.

    Returns:
        tuple[int, int, int, int]: x1, y1, x2, y2, with x2 and y2 the last index + 1.

    Raises:
        ValueError: If no pixel is above the threshold.
    """
    ink = alpha > threshold
    columns, rows = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
    if not len(columns):
        raise ValueError(
            f'alpha has a maximum of {alpha.max(initial=0):g}, expected some ink '
            f'above {threshold:g}; render the digit larger'
        )
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def place_digits(
    digits: np.ndarray, labels: np.ndarray, rng: np.random.Generator, style: PageStyle
) -> list[Placement]:
    """Give each digit a size, a shape and a place where no two boxes overlap.

    A digit that finds no free place is left out, so a crowded page may hold fewer digits
    than it was given. The largest is placed first, and one digit alone always fits.

    Args:
        digits (np.ndarray): Grey images (N, 8, 8) in 0..16.
        labels (np.ndarray): Their labels (N,) in 0..9.
        rng (np.random.Generator): Source of all choices.
        style (PageStyle): Page size, glyph heights and gap.

    Returns:
        list[Placement]: The placed digits, at most N, every pixel of them on the page.

    Raises:
        ValueError: If a digit is malformed or the two lengths differ.
    """
    if len(digits) != len(labels):
        raise ValueError(
            f'got {len(digits)} digits and {len(labels)} labels, expected as many '
            'of one as of the other; pass one label per digit'
        )
    heights = np.exp(rng.uniform(math.log(style.min_size), math.log(style.max_size), len(digits)))
    placements: list[Placement] = []
    taken = np.zeros((0, 4))
    for i in np.argsort(-heights, kind='stable'):
        alpha = render_digit(digits[i], heights[i], rng, style)
        left, top, right, bottom = alpha_box(alpha)
        room = style.page_size - np.array(alpha.shape[::-1])
        for x, y in rng.integers(0, room + 1, size=(_PLACEMENT_TRIES, 2)).tolist():
            box = x + left, y + top, x + right, y + bottom
            apart = (
                (taken[:, 0] >= box[2] + style.gap)
                | (taken[:, 2] + style.gap <= box[0])
                | (taken[:, 1] >= box[3] + style.gap)
                | (taken[:, 3] + style.gap <= box[1])
            )
            if apart.all():
                placements.append(Placement(alpha, x, y, int(labels[i])))
                taken = np.vstack([taken, box])
                break
    return placements


def render_page(
    digits: np.ndarray, labels: np.ndarray, rng: np.random.Generator, style: PageStyle
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write digits on a page and photograph it.

    Args:
        digits (np.ndarray): Grey images (K, 8, 8) in 0..16; K may be 0.
        labels (np.ndarray): Their labels (K,) in 0..9.
        rng (np.random.Generator): Source of all choices.
        style (PageStyle): How the page looks.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: The image uint8 (page_size, page_size, 3)
        in BGR, the boxes float32 (N, 4) as x1, y1, x2, y2 in pixels, and the labels int64
        (N,), N <= K (see :func:`place_digits`).

    Raises:
        ValueError: If a digit is malformed or the two lengths differ.
    """
    # Separate streams: the paper and the light do not depend on what is written.
    paper_rng, place_rng, ink_rng, camera_rng = _child_rngs(rng, 4)
    page = _render_paper(paper_rng, style)
    placements = place_digits(digits, labels, place_rng, style)
    _write(page, placements, ink_rng)
    image = _photograph(page, camera_rng, style)
    boxes = np.array([p.box for p in placements], dtype=np.float32).reshape(-1, 4)
    return image, boxes, np.array([p.label for p in placements], dtype=np.int64)


def render_split_page(
    split: str, index: int, seed: int = 0, style: PageStyle | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render page ``index`` of a split, from nothing but the arguments.

    Args:
        split (str): 'train' or 'val'.
        index (int): Index of the page, >= 0.
        seed (int): Seed of the data set, >= 0.
        style (PageStyle, optional): How the page looks; the default style if None.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: As :func:`render_page`.

    Raises:
        ValueError: If ``split`` is unknown or ``index`` or ``seed`` is negative.
        ImportError: If scikit-learn is not installed.
    """
    _check_split(split)
    _check_seed(seed)
    _check_count('index', index, 0)
    style = style or PageStyle()
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    images, labels = load_split(seed)[split]
    count = int(rng.integers(1, style.max_digits + 1))
    if rng.random() < style.empty_fraction:
        count = 0
    chosen = rng.integers(len(images), size=count)
    return render_page(images[chosen], labels[chosen], rng, style)


def render_single(
    digit: np.ndarray, rng: np.random.Generator, size: int, style: PageStyle | None = None
) -> np.ndarray:
    """Render one digit that fills 45 to 78 % of the height of its own small page.

    Args:
        digit (np.ndarray): Grey image (8, 8) in 0..16.
        rng (np.random.Generator): Source of all choices.
        size (int): Side of the image in pixels, at least 32.
        style (PageStyle, optional): How the page looks, its sizes apart; default if None.

    Returns:
        np.ndarray: Image uint8 (size, size, 3) in BGR.

    Raises:
        ValueError: If ``digit`` is malformed or ``size`` is out of range.
    """
    style = replace(
        style or PageStyle(), page_size=size, min_size=0.45 * size, max_size=0.78 * size
    )
    return render_page(np.asarray(digit)[None], np.zeros(1, dtype=np.int64), rng, style)[0]


def single_digits(split: str, n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Render single digits on paper, to warm up a backbone as a classifier.

    They come from the same split of the digits as the pages of the same seed, so singles of
    'train' share no digit with pages of 'val'.

    Args:
        split (str): 'train' or 'val'.
        n (int): How many, >= 0.
        size (int): Side of each image in pixels, at least 32.
        seed (int): Seed of the data set, >= 0.

    Returns:
        tuple[np.ndarray, np.ndarray]: Images uint8 (n, size, size, 3) in BGR and labels int64
        (n,) in 0..9.

    Raises:
        ValueError: If ``split`` is unknown or a number is out of range.
        ImportError: If scikit-learn is not installed.
    """
    _check_split(split)
    _check_count('n', n, 0)
    images, labels = load_split(seed)[split]
    stream = _SINGLES_STREAM + SPLITS.index(split)
    singles = np.empty((n, size, size, 3), dtype=np.uint8)
    chosen = np.empty(n, dtype=np.int64)
    for index in range(n):
        rng = np.random.default_rng([seed, stream, index])
        chosen[index] = rng.integers(len(images))
        singles[index] = render_single(images[chosen[index]], rng, size)
    return singles, labels[chosen]


def generate(
    out_dir: str | Path,
    train_pages: int = 2000,
    val_pages: int = 200,
    seed: int = 0,
    style: PageStyle | None = None,
    workers: int | None = None,
    verbose: bool = False,
) -> Path:
    """Write the data set in COCO format; do nothing if it is there already.

    The layout is ``train/000001.png``, ``val/...``, ``annotations/train.json`` and
    ``annotations/val.json``, with category id = digit + 1. The annotations are written last,
    so an interrupted run leaves none and is redone by the next.

    Args:
        out_dir (str | Path): Folder of the data set, created if absent.
        train_pages (int): Pages of the train split, from 1 to 999,999.
        val_pages (int): Pages of the val split, from 1 to 999,999.
        seed (int): Seed of everything, >= 0.
        style (PageStyle, optional): How a page looks; the default style if None.
        workers (int, optional): Processes, >= 1; one per CPU if None.
        verbose (bool): Whether to report progress on stderr.

    Returns:
        Path: ``out_dir``.

    Raises:
        ValueError: If a number is out of range, or ``out_dir`` holds other annotations.
        ImportError: If scikit-learn is not installed.
        OSError: If a file cannot be written.
    """
    out_dir = Path(out_dir)
    style = style or PageStyle()
    workers = (os.cpu_count() or 1) if workers is None else workers
    pages = {'train': train_pages, 'val': val_pages}
    for split, count in pages.items():
        _check_count(f'{split}_pages', count, 1, 999_999)
    _check_count('workers', workers, 1)
    _check_seed(seed)

    info = _dataset_info(pages, seed, style)
    if _is_complete(out_dir, info, pages):
        if verbose:
            print(f'{out_dir}: up to date', file=sys.stderr)
        return out_dir
    for split in SPLITS:
        _annotation_file(out_dir, split).unlink(missing_ok=True)
    _cached_split(seed)  # before the fork, so that the workers inherit it

    annotations = {}
    for split, count in pages.items():
        folder = out_dir / split
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.iterdir():
            match = _IMAGE_NAME.fullmatch(stale.name)
            if match and int(match[1]) > count:
                stale.unlink()
        write_page = functools.partial(_write_page, folder, split, seed, style)
        truths = _map(write_page, range(count), workers)
        if verbose:
            truths = _with_progress(truths, count, split)
        annotations[split] = _coco_annotations(info, truths, style.page_size)
    for split in SPLITS:
        _write_json(_annotation_file(out_dir, split), annotations[split])
    return out_dir


def sample_sheet(
    seed: int = 0, style: PageStyle | None = None, columns: int = 6, rows: int = 2
) -> np.ndarray:
    """Lay the first train pages out in a grid; the lower half shows the ground truth.

    Args:
        seed (int): Seed of the data set, >= 0.
        style (PageStyle, optional): How a page looks; the default style if None.
        columns (int): Pages in a row, >= 1.
        rows (int): Rows, >= 1.

    Returns:
        np.ndarray: Image uint8 (H, W, 3) in BGR.

    Raises:
        ValueError: If a number is out of range.
        ImportError: If scikit-learn is not installed.
    """
    _check_count('columns', columns, 1)
    _check_count('rows', rows, 1)
    margin = 6
    bands = []
    for row in range(rows):
        tiles = []
        for column in range(columns):
            image, boxes, labels = render_split_page('train', row * columns + column, seed, style)
            if row >= rows / 2:
                image = _draw_boxes(image, boxes, labels)
            # PNG does not compress sensor noise; the lost three bits do not show on a sheet.
            image = (image & 0xF8) | 0x04
            tiles.append(
                cv2.copyMakeBorder(
                    image,
                    margin,
                    margin,
                    margin,
                    margin,
                    cv2.BORDER_CONSTANT,
                    value=(255, 255, 255),
                )
            )
        bands.append(np.hstack(tiles))
    return np.vstack(bands)


@functools.cache
def _source_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn, which is not installed; '
            'run: pip install scikit-learn'
        ) from error
    source = load_digits()
    return source.images.astype(np.uint8), source.target.astype(np.int64)


@functools.lru_cache(maxsize=4)
def _cached_split(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    images, labels = _source_digits()
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    in_train = np.zeros(len(labels), dtype=bool)
    for digit in range(len(CLASSES)):
        members = rng.permutation(np.flatnonzero(labels == digit))
        in_train[members[: round(TRAIN_FRACTION * len(members))]] = True
    split = {}
    for name, chosen in zip(SPLITS, (in_train, ~in_train), strict=True):
        split[name] = images[chosen], labels[chosen]
        for array in split[name]:
            array.setflags(write=False)  # shared by all callers through the cache
    return split


def _child_rngs(rng: np.random.Generator, n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in rng.integers(2**63, size=n).tolist()]


def _upsample(digit: np.ndarray, height: float) -> np.ndarray:
    """Turn an 8x8 digit into smooth strokes: float32 in [0, 1], the 8 rows ``height`` high."""
    cell = 4  # the field is smooth: four pixels a cell hold it, at any height
    padded = np.pad(digit.astype(np.float32) / _GREY_MAX, 2)
    grey = cv2.resize(padded, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    # Rounds off the staircase that the coarse cells leave along slanted strokes.
    grey = cv2.GaussianBlur(grey, (0, 0), 0.32 * cell)
    # Many strokes are thinner than a cell: local contrast keeps faint ones from breaking
    # and the holes of 4, 6, 8 and 9 from filling, which no single grey level does.
    grey += 1.8 * (grey - cv2.GaussianBlur(grey, (0, 0), 1.2 * cell))
    side = math.ceil(len(padded) * height / 8)
    grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_CUBIC)
    edge = np.clip((grey - 0.38) / (0.72 - 0.38), 0, 1)
    return edge * edge * (3 - 2 * edge)


def _coordinates(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (1, size) and (size, 1), float32 in [-1, 1]."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _render_paper(rng: np.random.Generator, style: PageStyle) -> np.ndarray:
    """Blank paper, float32 (page_size, page_size, 3) in 0..255."""
    size = style.page_size
    tint = np.array(_PAPERS[rng.integers(len(_PAPERS))], dtype=np.float32)
    page = np.broadcast_to(tint - rng.uniform(0, 8), (size, size, 3)).copy()
    fibres = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), 1.2)
    page += 4 * fibres[..., None]

    kind = rng.choice(['plain', 'ruled', 'grid'])
    if kind != 'plain':
        pitch = rng.uniform(16, 30) if kind == 'ruled' else rng.uniform(10, 18)
        colour = np.array(_RULES[rng.integers(len(_RULES))], dtype=np.float32)
        strength = rng.uniform(0.45, 0.9)
        tilt = math.radians(rng.uniform(-3, 3))
        x, y = (axis * size / 2 for axis in _coordinates(size))
        across = [y * math.cos(tilt) + x * math.sin(tilt)]
        if kind == 'grid':
            across.append(x * math.cos(tilt) - y * math.sin(tilt))
        for distance in across:
            offset = (distance + rng.uniform(0, pitch)) % pitch
            line = np.clip(1.2 - np.minimum(offset, pitch - offset), 0, 1) * strength
            page += line[..., None] * (colour - page)
    return page


def _write(page: np.ndarray, placements: list[Placement], rng: np.random.Generator) -> None:
    """Blend the digits into ``page`` in place, mostly in one ink."""
    names = list(_INKS)
    page_ink = rng.choice(names)
    for alpha, x, y, _ in placements:
        name = rng.choice(names) if rng.random() < 0.25 else page_ink
        ink = np.array(_INKS[name], dtype=np.float32) + rng.uniform(-10, 10)
        opacity = alpha * rng.uniform(0.88, 1)
        if name == 'pencil':
            # Graphite catches on the grain of the paper.
            opacity = opacity * rng.uniform(0.75, 1, alpha.shape)
        h, w = alpha.shape
        patch = page[y : y + h, x : x + w]
        patch += opacity[..., None].astype(np.float32) * (ink - patch)


def _photograph(page: np.ndarray, rng: np.random.Generator, style: PageStyle) -> np.ndarray:
    """Apply uneven light, blur and sensor noise; returns uint8 of the same shape."""
    x, y = _coordinates(style.page_size)
    direction = rng.uniform(0, 2 * math.pi)
    slope = (x * math.cos(direction) + y * math.sin(direction)) / math.sqrt(2)
    light = 1 - rng.uniform(0, 0.3) * (slope + 1) / 2
    if rng.random() < 0.5:
        light = light * (1 - rng.uniform(0.05, 0.2) * (x * x + y * y) / 2)
    page = page * light[..., None]
    blur = rng.uniform(0, style.max_blur)
    if blur > 0.2:  # narrower kernels are the identity
        page = cv2.GaussianBlur(page, (0, 0), blur)
    noise = rng.standard_normal(page.shape, dtype=np.float32)
    page = page + rng.uniform(0, style.max_noise) * noise
    return np.clip(np.rint(page), 0, 255).astype(np.uint8)


def _draw_boxes(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    image = image.copy()
    colour = (200, 0, 200)
    width, height = 9, 11
    # What a tag must not hide: the digits and the other tags.
    taken = np.zeros(image.shape[:2], dtype=bool)
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        cv2.rectangle(image, (x1 - 1, y1 - 1), (x2, y2), colour, 1)
        taken[y1:y2, x1:x2] = True
    for (x1, y1, x2, y2), label in zip(boxes.astype(int).tolist(), labels.tolist(), strict=True):
        places = [
            (x1 - 1, y1 - height),
            (x2 + 1 - width, y1 - height),
            (x1 - 1, y2),
            (x2 + 1 - width, y2),
            (x2, y1 - 1),
            (x1 - width, y1 - 1),
            (x2, y2 + 1 - height),
            (x1 - width, y2 + 1 - height),
        ]
        free = [
            (x, y)
            for x, y in places
            if 0 <= x <= image.shape[1] - width
            and 0 <= y <= image.shape[0] - height
            and not taken[y : y + height, x : x + width].any()
        ]
        x, y = free[0] if free else (x1, y1)
        taken[y : y + height, x : x + width] = True
        cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
        cv2.putText(
            image,
            CLASSES[label],
            (x + 1, y + height - 2),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.33,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return image


def _write_page(
    folder: Path, split: str, seed: int, style: PageStyle, index: int
) -> tuple[list[list[int]], list[int]]:
    image, boxes, labels = render_split_page(split, index, seed, style)
    (folder / _image_name(index)).write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return boxes.astype(int).tolist(), labels.tolist()


def _image_name(index: int) -> str:
    return f'{index + 1:06d}.png'


def _map(function: Callable, items: range, workers: int) -> Iterator:
    # OpenCV's own threads would compete with the processes, and do not survive a fork.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if workers == 1:
            yield from map(function, items)
        else:
            with ProcessPoolExecutor(min(workers, len(items))) as pool:
                yield from pool.map(function, items, chunksize=16)
    finally:
        cv2.setNumThreads(threads)


def _with_progress(items: Iterable, total: int, name: str) -> Iterator:
    # A log file wants few lines, a terminal one that moves.
    step, start, end = (1, '\r', '') if sys.stderr.isatty() else (25, '', '\n')
    shown = -1
    for done, item in enumerate(items, start=1):
        percent = 100 * done // total // step * step
        if percent != shown:
            line = f'{start}{name}: {percent:3d} % of {total} pages'
            print(line, end=end, file=sys.stderr, flush=True)
            shown = percent
        yield item
    if not end:
        print(file=sys.stderr)


def _coco_annotations(info: dict, truths: Iterable, page_size: int) -> dict:
    images, annotations = [], []
    for index, (boxes, labels) in enumerate(truths):
        image_id = index + 1
        images.append(
            dict(id=image_id, file_name=_image_name(index), width=page_size, height=page_size)
        )
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            w, h = x2 - x1, y2 - y1
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, w, h],
                    area=w * h,
                    iscrowd=0,
                )
            )
    categories = [
        dict(id=digit + 1, name=name, supercategory='digit') for digit, name in enumerate(CLASSES)
    ]
    return dict(info=info, images=images, annotations=annotations, categories=categories)


def _dataset_info(pages: dict[str, int], seed: int, style: PageStyle) -> dict:
    return dict(
        description=_DESCRIPTION,
        version=GENERATOR_VERSION,
        source=_SOURCE,
        seed=seed,
        pages=pages,
        style=asdict(style),
        alpha_threshold=ALPHA_THRESHOLD,
    )


def _annotation_file(out_dir: Path, split: str) -> Path:
    return out_dir / 'annotations' / f'{split}.json'


def _is_complete(out_dir: Path, info: dict, pages: dict[str, int]) -> bool:
    """Whether the data set that ``info`` describes is there, its annotations and its images.

    Raises:
        ValueError: If the annotations there are not of this data set: they stay untouched.
    """
    complete = True
    for split, count in pages.items():
        path = _annotation_file(out_dir, split)
        if not path.exists():
            complete = False
            continue
        try:
            found = json.loads(path.read_text(encoding='utf-8'))['info']
            ours = found['description'] == _DESCRIPTION
        except (ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise ValueError(
                f'{path} is of another data set, expected none or one of '
                f'"{_DESCRIPTION}"; choose another folder'
            )
        complete = (
            complete
            and found == info
            and all((out_dir / split / _image_name(index)).is_file() for index in range(count))
        )
    return complete


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.json.part')
    partial.write_text(json.dumps(content), encoding='utf-8')
    partial.replace(path)


def _check_digit(digit: np.ndarray) -> np.ndarray:
    digit = np.asarray(digit)
    if digit.shape != (8, 8):
        raise ValueError(
            f'digit has shape {digit.shape}, expected (8, 8); pass images of '
            'sklearn.datasets.load_digits'
        )
    if digit.min() < 0 or digit.max() > _GREY_MAX or digit.max() < _GREY_MAX / 2:
        raise ValueError(
            f'digit has grey values {digit.min():g}..{digit.max():g}, expected '
            f'0..{_GREY_MAX} with some ink; pass images of '
            'sklearn.datasets.load_digits'
        )
    return digit


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(
            f'split is {split!r}, expected one of {", ".join(SPLITS)}; pass one of these'
        )


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f'seed is {seed}, expected an integer >= 0; pass another seed')


def _check_count(name: str, value: int, low: int, high: int | None = None) -> None:
    if value < low or (high is not None and value > high):
        bounds = f'>= {low}' if high is None else f'from {low} to {high}'
        raise ValueError(f'{name} is {value}, expected an integer {bounds}; pass another number')


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(
            f'{name} is {value}, expected a number from {low:g} to {high:g}; pass one in that range'
        )
