"""MixUp of DEIM's dense one-to-one training (https://arxiv.org/abs/2412.04234, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ...utils.ranges import check_probability, check_range
from .ground_truth import check_batch, concatenate, instances_of, replace


@MODELS.register_module()
class BatchMixUp(nn.Module):
    """Blends every image of a batch with the one before it, and trains on the objects of both.

    Image i becomes r * image i + (1 - r) * image i - 1, the first one with the last; r is drawn
    once a batch. Objects of both count in full, as in the authors' code. ``img_shape`` and
    ``pad_shape`` become the larger of the two images' in each direction, and the rest of the
    metainfo stays that of image i.

    Args:
        prob: Probability of every batch to be blended, 0..1.
        ratio: Range of r, within 0..1.

    Raises:
        ValueError: If an argument is out of range; in training, for a batch of one image, or one
            with masks or a semantic map.
    """

    min_batch_size = 2

    def __init__(self, prob: float = 0.5, ratio: Sequence[float] = (0.45, 0.55)) -> None:
        super().__init__()
        self.prob = check_probability('prob', prob)
        self.ratio = check_range('ratio', ratio, 0, 1)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample]
    ) -> tuple[Tensor, Sequence[DetDataSample]]:
        """Blends a batch.

        Args:
            inputs: (N, C, H, W), floating point.
            data_samples: N, with boxes in pixels.

        Returns:
            Images of the same shape and new data samples, in which the objects of image i precede
            those of image i - 1; what is passed in stays as it is.

        Raises:
            ValueError: If N is one, or data samples hold what would not follow the images.
        """
        check_batch(self, data_samples, least=self.min_batch_size)
        if np.random.random() >= self.prob:
            return inputs, data_samples
        mixed = torch.lerp(inputs.roll(1, dims=0), inputs, np.random.uniform(*self.ratio))
        previous = [data_samples[-1], *data_samples[:-1]]
        return mixed, [_join(own, other) for own, other in zip(data_samples, previous)]

    def extra_repr(self) -> str:
        return f'prob={self.prob}, ratio={self.ratio}'


def _join(own: DetDataSample, other: DetDataSample) -> DetDataSample:
    metainfo = {
        key: tuple(map(max, own.metainfo[key][:2], other.metainfo[key][:2]))
        for key in ('img_shape', 'pad_shape')
        if key in own.metainfo
    }
    return replace(own, concatenate([instances_of(own), instances_of(other)]), metainfo)
