"""Multi-scale training as RT-DETR's (https://arxiv.org/abs/2304.08069, section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .ground_truth import check_batch, instances_of, replace

INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'area')


@MODELS.register_module()
class BatchRandomResize(nn.Module):
    """Stretches every batch to a size drawn from a list; a size listed more often comes more often.

    The sizes and the interpolation are those of the authors' code, and so is that every batch has
    a size of its own. mmdet's ``BatchSyncRandomResize`` draws from an even range, keeps a size for
    ten iterations, interpolates bilinearly and waits for the device.

    What is scaled: images, boxes and masks of ``gt_instances`` and ``ignored_instances``, and the
    metainfo ``img_shape``, ``pad_shape``, ``batch_input_shape`` and ``scale_factor``.

    Args:
        sizes: Sizes in pixels to draw from, an integer for a square or (height, width).
        interpolation: ``'nearest'``, ``'bilinear'``, ``'bicubic'`` or ``'area'``.

    Raises:
        ValueError: If an argument is none of these, or a batch holds a semantic map.
    """

    def __init__(
        self,
        sizes: Sequence[int | Sequence[int]] = (
            *(480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800),
        ),
        interpolation: str = 'nearest',
    ) -> None:
        super().__init__()
        self.sizes = [_as_height_and_width(size) for size in sizes]
        if not self.sizes:
            raise ValueError('sizes is empty, expected one size or more; list some, e.g. [640]')
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f'interpolation is {interpolation!r}, expected one of {", ".join(INTERPOLATIONS)}; '
                'choose one of them'
            )
        self.interpolation = interpolation

    def forward(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample]
    ) -> tuple[Tensor, Sequence[DetDataSample]]:
        """Resizes a batch.

        Args:
            inputs: (N, C, H, W).
            data_samples: N, with boxes x1, y1, x2, y2 in pixels.

        Returns:
            Images of the drawn size and new data samples; what is passed in stays as it is.

        Raises:
            ValueError: If a data sample holds a semantic map, or boxes that are not tensors.
        """
        check_batch(self, data_samples, with_masks=True)
        old = tuple(inputs.shape[-2:])
        new = self.sizes[np.random.randint(len(self.sizes))]
        if new == old:
            return inputs, data_samples
        inputs = F.interpolate(inputs, size=new, mode=self.interpolation)
        return inputs, [_resize_sample(sample, old, new) for sample in data_samples]

    def extra_repr(self) -> str:
        return f'sizes={self.sizes}, interpolation={self.interpolation!r}'


def _as_height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(
            f'sizes holds {size!r}, expected a positive integer or two of them (height, width); '
            'correct that entry'
        )
    return pair


def _scale_shape(
    shape: Sequence[int], old: tuple[int, int], new: tuple[int, int]
) -> tuple[int, int]:
    # Rounded up: nearest interpolation takes as many rows and columns from the image within the
    # padding, and boxes stay inside.
    return tuple(-(-n * to // of) for n, of, to in zip(shape, old, new))


def _resize_sample(
    sample: DetDataSample, old: tuple[int, int], new: tuple[int, int]
) -> DetDataSample:
    instances = {
        field: _resize_instances(found, old, new) for field, found in instances_of(sample).items()
    }
    metainfo = dict(batch_input_shape=new)
    for key in ('img_shape', 'pad_shape'):
        if key in sample.metainfo:
            metainfo[key] = _scale_shape(sample.metainfo[key][:2], old, new)
    if 'scale_factor' in sample.metainfo:
        width, height = sample.metainfo['scale_factor']
        metainfo['scale_factor'] = (width * new[1] / old[1], height * new[0] / old[0])
    return replace(sample, instances, metainfo)


def _resize_instances(
    instances: InstanceData, old: tuple[int, int], new: tuple[int, int]
) -> InstanceData:
    changed = instances.new()
    # Python numbers as factors, since a tensor of them would have to cross to the device; and
    # multiplied first, so that a box at the border is exactly there again.
    changed.bboxes = torch.stack(
        [
            edge * new[axis] / old[axis]
            for edge, axis in zip(instances.bboxes.unbind(-1), (1, 0, 1, 0))
        ],
        dim=-1,
    )
    if 'masks' in instances:
        masks = instances.masks
        changed.masks = masks.resize(_scale_shape((masks.height, masks.width), old, new))
    return changed
