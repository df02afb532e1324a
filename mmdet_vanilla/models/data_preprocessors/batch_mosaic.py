"""Mosaic of DEIM's dense one-to-one training (https://arxiv.org/abs/2412.04234, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...utils.ranges import check_probability
from .ground_truth import check_batch, concatenate, instances_of, replace


@MODELS.register_module()
class BatchMosaic(nn.Module):
    """Replaces images by four images of the batch in two rows and two columns.

    A mosaic is as large as the image it replaces and holds about four times as many objects. It
    consists of that image and three others of the batch, different ones if the batch has four
    images or more, each shrunk to a quarter, padding included, in an order drawn at random.

    The paper names mosaic and MixUp; public code makes mosaics in the data set instead, from
    a cache of images, and then rotates, moves and scales them.

    ``img_shape``, ``pad_shape`` and ``batch_input_shape`` of a mosaic are those of the batch; the
    rest of its metainfo (``img_id``, ``ori_shape``, ``scale_factor``, ...) stays that of the image
    it replaces, and says nothing about the other three.

    Args:
        prob: Probability of every image to be replaced, 0..1.
        min_size: Boxes that shrink to less pixels in width or height than this are dropped, >= 0.
            Above 0 this takes one transfer from the device for a batch that has a mosaic; 0 keeps
            every box and takes none.

    Raises:
        ValueError: If an argument is out of range; in training, for a batch of one image, or one
            with masks or a semantic map.
    """

    min_batch_size = 2

    def __init__(self, prob: float = 0.5, min_size: float = 0.0) -> None:
        super().__init__()
        self.prob = check_probability('prob', prob)
        if min_size < 0:
            raise ValueError(f'min_size is {min_size!r}, expected pixels >= 0; set it to such')
        self.min_size = min_size

    def forward(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample]
    ) -> tuple[Tensor, Sequence[DetDataSample]]:
        """Makes mosaics of some images.

        Args:
            inputs: (N, C, H, W), floating point.
            data_samples: N, with boxes x1, y1, x2, y2 in pixels.

        Returns:
            Images of the same shape and data samples; what is passed in stays as it is.

        Raises:
            ValueError: If N is one, or data samples hold what would not follow the images.
        """
        check_batch(self, data_samples, least=self.min_batch_size)
        n = len(inputs)
        chosen = np.flatnonzero(np.random.random(n) < self.prob).tolist()
        if not chosen:
            return inputs, data_samples

        height, width = inputs.shape[-2:]
        shrunk: dict[tuple[int, int], Tensor] = {}  # of even sizes, all quarters share one
        mosaics = inputs.clone()
        ground_truth = []
        for target in chosen:
            parts = []
            for source, (top, bottom, left, right) in zip(
                _draw_sources(target, n), _quarters(height, width)
            ):
                size = (bottom - top, right - left)
                if size not in shrunk:
                    shrunk[size] = F.interpolate(inputs, size, mode='bilinear', antialias=True)
                mosaics[target, :, top:bottom, left:right] = shrunk[size][source]
                parts.append(
                    {
                        field: _move(found, size[1] / width, size[0] / height, left, top, size)
                        for field, found in instances_of(data_samples[source]).items()
                    }
                )
            ground_truth.append(concatenate(parts))
        if self.min_size > 0:
            ground_truth = _drop_small(ground_truth, self.min_size)

        data_samples = list(data_samples)
        shape = (height, width)
        metainfo = dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape)
        for target, instances in zip(chosen, ground_truth):
            data_samples[target] = replace(data_samples[target], instances, metainfo)
        return mosaics, data_samples

    def extra_repr(self) -> str:
        return f'prob={self.prob}, min_size={self.min_size}'


def _draw_sources(target: int, n: int) -> list[int]:
    others = np.delete(np.arange(n), target)
    drawn = np.random.choice(others, 3, replace=len(others) < 3)
    return np.random.permutation([target, *drawn]).tolist()


def _quarters(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right of four tiles that cover the image, of odd sizes as well."""
    rows, columns = (0, height // 2, height), (0, width // 2, width)
    return [
        (*rows[row : row + 2], *columns[column : column + 2]) for row in (0, 1) for column in (0, 1)
    ]


def _move(
    instances: InstanceData, x: float, y: float, left: int, top: int, size: tuple[int, int]
) -> InstanceData:
    x1, y1, x2, y2 = instances.bboxes.unbind(-1)
    # Clipped to the tile, lest what hangs over an image's border reaches into its neighbour.
    columns = [(edge * x).clamp(0, size[1]) + left for edge in (x1, x2)]
    rows = [(edge * y).clamp(0, size[0]) + top for edge in (y1, y2)]
    moved = instances.new()
    moved.bboxes = torch.stack([columns[0], rows[0], columns[1], rows[1]], dim=-1)
    return moved


def _drop_small(
    ground_truth: list[dict[str, InstanceData]], min_size: float
) -> list[dict[str, InstanceData]]:
    found = [(i, field) for i, part in enumerate(ground_truth) for field in part]
    boxes = [ground_truth[i][field].bboxes for i, field in found]
    if not boxes:
        return ground_truth
    # All images at once, since every transfer waits for the device.
    sides = torch.cat([b[:, 2:] - b[:, :2] for b in boxes])
    large = (sides >= min_size).all(-1).cpu().split([len(b) for b in boxes])
    kept = [dict(part) for part in ground_truth]
    for (i, field), keep in zip(found, large):
        if not keep.all():
            kept[i][field] = ground_truth[i][field][keep]
    return kept
