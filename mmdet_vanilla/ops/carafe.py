"""CARAFE: enlarging a map by weighted sums of each cell's neighbours (arXiv 1905.02188)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .gradients import write_gradients


def carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    """The enlarged map.

    Args:
        features: Shape (N, C, H, W).
        masks: Weights of the neighbours for each cell of the result, shape
            (N, group_size * kernel_size^2, s * H, s * W).
        kernel_size: Side of the neighbourhood, odd.
        group_size: Groups of channels with weights of their own.
        scale_factor: s.

    Returns:
        Shape (N, C, s * H, s * W).
    """
    batch, channels, height, width = features.shape
    neighbours = F.unfold(features, kernel_size, padding=kernel_size // 2)
    neighbours = neighbours.view(batch, channels * kernel_size**2, height, width)
    neighbours = F.interpolate(neighbours, scale_factor=scale_factor, mode='nearest')
    size = neighbours.shape[2:]
    neighbours = neighbours.view(batch, group_size, channels // group_size, kernel_size**2, *size)
    masks = masks.view(batch, group_size, 1, kernel_size**2, *size)
    return (neighbours * masks).sum(3).view(batch, channels, *size)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """mmcv's operator: writes :func:`carafe` into ``output``.

    ``rfeatures`` is what mmcv keeps for the backward operator: there it holds the features with
    channels last, here as they are.
    """
    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))
    rfeatures.copy_(features)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """mmcv's operator: writes the gradients by features and weights."""
    write_gradients(
        lambda features, weights: carafe(features, weights, kernel_size, group_size, scale_factor),
        [rfeatures, masks],
        grad_output,
        [grad_input, grad_masks],
    )
