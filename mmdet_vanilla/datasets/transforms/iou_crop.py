"""Random crops that keep an object, as RT-DETR trains with (https://arxiv.org/abs/2304.08069)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes, autocast_box_type

from ...utils.ranges import check_probability, check_range


@TRANSFORMS.register_module()
class RandomIoUCrop(BaseTransform):
    """Crops with the distribution of torchvision's ``v2.RandomIoUCrop`` (SSD's crop).

    A minimum IoU is drawn from ``min_ious``; 1 and more leave the image as it is. Up to ``trials``
    crops are then drawn until one has the centre of a box strictly inside it, and with one of those
    boxes at least the minimum IoU; failing that, another minimum is drawn. Boxes whose centre is
    outside of the crop are dropped, the others are clipped to it.

    mmdet's ``MinIoURandomCrop`` wants the minimum IoU with every box of the image instead, which
    crowded images hardly ever pass, has 50 trials and no probability, so that nothing of it is
    reused here.

    Boxes with ``gt_ignore_flags`` (crowds) follow the crop but do not justify one, since the
    authors' data has none. An image without any other box is left as it is.

    Required keys: ``img``. Modified keys: ``img``, ``img_shape``, and where present ``gt_bboxes``,
    ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks``, ``gt_seg_map``.

    Args:
        min_ious: Minimum IoUs to draw from, of which one is >= 1, so that drawing comes to an end.
        scale: Range of the crop's width and of its height, in parts of the image's, in 0..1.
        aspect_ratio: Range of width / height in pixels, outside of which a crop is rejected.
        trials: Crops that are tried with one minimum IoU, >= 1.
        prob: Probability that an image is treated at all; RT-DETR's is 0.8.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        scale: Sequence[float] = (0.3, 1.0),
        aspect_ratio: Sequence[float] = (0.5, 2.0),
        trials: int = 40,
        prob: float = 0.8,
    ) -> None:
        if not any(iou >= 1 for iou in min_ious):
            raise ValueError(
                f'min_ious is {min_ious!r}, expected one number >= 1 among them, which leaves the '
                'image as it is; without it an image that no crop suits would be tried for ever: '
                'add 1.0'
            )
        if trials < 1:
            raise ValueError(f'trials is {trials!r}, expected an integer >= 1; set it to one')
        self.min_ious = tuple(min_ious)
        self.scale = check_range('scale', scale, 0, 1)
        self.aspect_ratio = check_range('aspect_ratio', aspect_ratio)
        self.trials = trials
        self.prob = check_probability('prob', prob)

    @cache_randomness
    def _random_crop(
        self, height: int, width: int, boxes: HorizontalBoxes
    ) -> tuple[int, int, int, int] | None:
        """Draws a crop x1, y1, x2, y2 in pixels, or None for the whole image."""
        if np.random.random() >= self.prob or not len(boxes):
            return None
        centers = boxes.centers.numpy()
        while True:
            min_iou = self.min_ious[np.random.randint(len(self.min_ious))]
            if min_iou >= 1:
                return None
            for _ in range(self.trials):
                new_width = int(width * np.random.uniform(*self.scale))
                new_height = int(height * np.random.uniform(*self.scale))
                low, high = self.aspect_ratio
                if not (0 < low * new_height <= new_width <= high * new_height):
                    continue
                x1 = int((width - new_width) * np.random.random())
                y1 = int((height - new_height) * np.random.random())
                crop = (x1, y1, x1 + new_width, y1 + new_height)
                inside = _contains(crop, centers)
                if not inside.any():
                    continue
                ious = boxes.overlaps(
                    boxes[torch.from_numpy(inside)], HorizontalBoxes([crop], dtype=torch.float32)
                )
                if ious.max() >= min_iou:
                    return crop

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Crops the image and what belongs to it.

        Args:
            results: Of the pipeline.

        Returns:
            The same, cropped.
        """
        boxes = results.get('gt_bboxes')
        if boxes is None:
            return results
        candidates = boxes
        if 'gt_ignore_flags' in results:
            candidates = boxes[torch.from_numpy(~np.asarray(results['gt_ignore_flags'], bool))]
        crop = self._random_crop(*results['img'].shape[:2], candidates)
        if crop is None:
            return results
        x1, y1, x2, y2 = crop
        for key in ('img', 'gt_seg_map'):
            if key in results:
                results[key] = results[key][y1:y2, x1:x2]
        results['img_shape'] = results['img'].shape[:2]

        inside = _contains(crop, boxes.centers.numpy())
        boxes = boxes[torch.from_numpy(inside)]
        boxes.translate_([-x1, -y1])
        boxes.clip_(results['img_shape'])
        results['gt_bboxes'] = boxes
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            if key in results:
                results[key] = results[key][inside]
        if 'gt_masks' in results:
            results['gt_masks'] = results['gt_masks'][np.flatnonzero(inside)].crop(np.array(crop))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_ious={self.min_ious}, scale={self.scale}, '
            f'aspect_ratio={self.aspect_ratio}, trials={self.trials}, prob={self.prob})'
        )


def _contains(crop: tuple[int, int, int, int], points: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie strictly inside of a crop x1, y1, x2, y2: bool (N,)."""
    return ((points > crop[:2]) & (points < crop[2:])).all(axis=1)
