"""A sheet of images with ground truth and detections side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmdet.structures import DetDataSample

from .draw_instances import draw_instances
from .grid import grid


def contact_sheet(
    images: Sequence[np.ndarray],
    samples: Sequence[DetDataSample],
    dataset_meta: Mapping,
    score_thr: float = 0.3,
    columns: int = 2,
    size: int = 320,
) -> np.ndarray:
    """Draws pairs of pictures, ground truth on the left and detections on the right.

    Args:
        images: RGB images (H, W, 3), uint8, of any sizes.
        samples: One data sample per image with ``gt_instances`` and ``pred_instances``, boxes in
            pixels of the image, and optionally ``img_path`` for the caption.
        dataset_meta: ``classes``, and ``palette`` if the classes have colours of their own.
        score_thr: Least score of a drawn detection, 0..1.
        columns: Pairs in a row.
        size: Longer side of every picture in pixels.

    Returns:
        RGB picture, uint8.
    """
    pictures, captions = [], []
    for image, sample in zip(images, samples):
        name = Path(sample.get('img_path') or '').name
        for what, instances in (
            ('ground truth', sample.gt_instances),
            (f'predictions, score > {score_thr:g}', sample.pred_instances),
        ):
            pictures.append(draw_instances(image, instances, dataset_meta, size, score_thr))
            captions.append(f'{name}  {what}'.strip())
    return grid(pictures, 2 * columns, captions)
