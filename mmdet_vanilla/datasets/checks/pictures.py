"""Pictures of a data set: histograms, and some images with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.structures import InstanceData

from ...utils.images import ImageError, read_image
from ..user_data import Split, printable

_MOST_CLASSES = 40


def plot_histograms(splits: dict[str, Split], path: Path) -> None:
    """Plots image sizes, aspect ratios, boxes per image, classes, box scales and box shapes.

    Args:
        splits: Repaired splits by name.
        path: PNG to write.
    """
    figure = Figure(figsize=(15, 9), layout='constrained')
    (sides, aspects, counts), (classes, scales, shapes) = figure.subplots(2, 3)
    for name, split in splits.items():
        width, height = np.maximum(split.sizes.T, 1)
        boxes = split.boxes[~split.ignored]
        areas = np.maximum((split.sizes[split.image_index[~split.ignored]]).prod(1), 1)
        style = dict(bins=40, histtype='step', linewidth=1.5, label=name)
        _histogram(sides, np.sqrt(width * height), 'images: square root of the area, px', style)
        _histogram(aspects, np.log2(width / height), 'images: log2(width / height)', style)
        _histogram(counts, split.boxes_per_image(), 'boxes per image', style)
        if len(boxes):
            scale = np.sqrt(boxes[:, 2:].prod(1) / areas)
            _histogram(scales, scale, "boxes: side as a share of the image's", style)
            ratio = np.log2(boxes[:, 2] / boxes[:, 3])
            _histogram(shapes, ratio, 'boxes: log2(width / height)', style)
    _plot_classes(classes, splits)
    for axes in (sides, aspects, counts, scales, shapes):
        axes.set_yscale('symlog')
        if axes.has_data():
            axes.legend()
    figure.savefig(path, dpi=90)


def _histogram(axes: Axes, values: np.ndarray, title: str, style: dict) -> None:
    axes.hist(values, **style)
    axes.set_title(title)


def _plot_classes(axes: Axes, splits: dict[str, Split]) -> None:
    names = list(dict.fromkeys(name for split in splits.values() for name in split.classes))
    counts = {}
    for split_name, split in splits.items():
        count = np.bincount(split.labels[~split.ignored], minlength=len(split.classes))
        of_name = dict(zip(split.classes, count))
        counts[split_name] = np.array([of_name.get(name, 0) for name in names])
    order = np.argsort(-sum(counts.values()))
    # The rarest are what to look at.
    shown = order if len(order) <= _MOST_CLASSES else order[-_MOST_CLASSES:]
    for split_name, count in counts.items():
        axes.plot(count[shown], range(len(shown)), 'o', markersize=4, label=split_name)
    axes.set_yticks(range(len(shown)))
    # A dollar sign would begin a formula.
    labels = [printable(names[i])[:30].replace('$', r'\$') for i in shown]
    axes.set_yticklabels(labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale('symlog')
    axes.set_xlim(left=0)
    more = '' if len(shown) == len(names) else f' (the rarest {len(shown)} of {len(names)})'
    axes.set_title(f'boxes per class{more}')
    axes.legend()


def draw_samples(split: Split, path: Path, most: int = 12, size: int = 320) -> None:
    """Draws images from all over a split with their boxes.

    Args:
        split: Repaired.
        path: PNG to write; not written where no image can be read.
        most: Number of images.
        size: Longer side of each, px.
    """
    # matplotlib and mmengine's visualizer take seconds to import, and only pictures need them.
    from ...visualization import draw_instances, grid

    pictures, captions = [], []
    for index in np.linspace(0, len(split.file_names) - 1, 3 * most).round().astype(int):
        if len(pictures) == most:
            break
        name = split.file_names[index]
        if name in captions:
            continue
        try:
            image = read_image(split.path(index), tuple(map(int, split.sizes[index])))
        except ImageError:
            continue
        chosen = split.image_index == index
        corners = split.boxes[chosen].copy()
        corners[:, 2:] += corners[:, :2]
        instances = InstanceData(
            bboxes=torch.from_numpy(corners).float(),
            labels=torch.from_numpy(split.labels[chosen]),
        )
        meta = dict(classes=_ascii(split.classes))
        pictures.append(
            draw_instances(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), instances, meta, size)
        )
        captions.append(name)
    if pictures:
        sheet = grid(pictures, 4, [printable(caption) for caption in captions])
        mmcv.imwrite(mmcv.rgb2bgr(sheet), str(path))


def _ascii(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(printable(name).replace('$', r'\$') for name in names)
