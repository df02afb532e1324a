"""A sheet of images with ground truth and detections side by side."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.visualization import DetLocalVisualizer


def contact_sheet(
    images: Sequence[np.ndarray],
    samples: Sequence[DetDataSample],
    classes: Sequence[str],
    score_thr: float = 0.3,
    columns: int = 2,
    zoom: float = 1.0,
) -> np.ndarray:
    """Draws pairs of pictures, ground truth on the left and detections on the right.

    Args:
        images: RGB images of one size (H, W, 3), uint8.
        samples: One data sample per image with ``gt_instances`` and ``pred_instances``, boxes in
            pixels of the image.
        classes: Names of the classes.
        score_thr: Least score of a drawn detection, 0..1.
        columns: Pairs in a row.
        zoom: Factor by which images are enlarged before boxes are drawn.

    Returns:
        RGB picture, uint8.
    """
    visualizer = DetLocalVisualizer(name='contact_sheet')
    visualizer.dataset_meta = dict(classes=tuple(classes), palette='random')
    pairs = []
    for image, sample in zip(images, samples):
        sample = sample.cpu()
        for instances in (sample.gt_instances, sample.pred_instances):
            instances.bboxes = get_box_tensor(instances.bboxes) * zoom
        visualizer.add_datasample(
            'pair', mmcv.imrescale(image, zoom), sample, pred_score_thr=score_thr
        )
        pairs.append(np.pad(visualizer.get_image(), [(4, 4), (4, 4), (0, 0)], constant_values=255))
    while len(pairs) % columns:
        pairs.append(np.full_like(pairs[0], 255))
    rows = [np.concatenate(pairs[i : i + columns], 1) for i in range(0, len(pairs), columns)]
    return np.concatenate(rows, 0)
