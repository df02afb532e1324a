"""Deformable convolution, version 1 (arXiv 1703.06211) and modulated (arXiv 1811.11168)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .gradients import write_gradients


class Geometry(NamedTuple):
    """Where a convolution's kernel lies; pairs are (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int


def deform_conv(
    x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry
) -> Tensor:
    """Convolution whose kernel reads at places of its own for every output cell.

    Args:
        x: Features, shape (N, C, H, W).
        offset: Shape (N, 2 * D * K, H', W') for D deformable groups and K places of the kernel:
            vertical, then horizontal shift of each place, in cells.
        mask: Weight of each place, shape (N, D * K, H', W'); none for version 1.
        weight: Kernel, shape (O, C / groups, k_h, k_w) with ``K = k_h * k_w``.
        geometry: Of the kernel.

    Returns:
        Shape (N, O, H', W').
    """
    batch, channels, height, width = x.shape
    out_height, out_width = offset.shape[2:]
    num_places = geometry.kernel[0] * geometry.kernel[1]
    groups = geometry.deform_groups

    def grid(axis: int, out_size: int) -> Tensor:
        """Where the kernel would read without offsets: (k, out_size)."""
        kernel = torch.arange(geometry.kernel[axis], dtype=x.dtype, device=x.device)
        cells = torch.arange(out_size, dtype=x.dtype, device=x.device)
        kernel, cells = kernel * geometry.dilation[axis], cells * geometry.stride[axis]
        return kernel[:, None] + cells - geometry.padding[axis]

    rows = grid(0, out_height)[:, None, :, None]  # (k_h, 1, H', 1)
    columns = grid(1, out_width)[None, :, None, :]  # (1, k_w, 1, W')
    shape = (*geometry.kernel, out_height, out_width)
    places = torch.stack([rows.expand(shape), columns.expand(shape)], 2)  # (k_h, k_w, 2, H', W')
    offset = offset.reshape(batch * groups, num_places, 2, out_height, out_width)
    y, x_ = (places.flatten(0, 1) + offset).unbind(2)  # (N * D, K, H', W')
    # What lies outside counts as 0, as in a convolution with padding.
    points = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    samples = F.grid_sample(
        x.reshape(batch * groups, channels // groups, height, width),
        points.flatten(1, 2),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False,
    )  # (N * D, C / D, K * H', W')
    samples = samples.unflatten(2, (num_places, out_height))
    if mask is not None:
        samples = samples * mask.reshape(batch * groups, 1, num_places, out_height, out_width)
    samples = samples.reshape(batch, geometry.groups, -1, out_height * out_width)
    kernels = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)
    return (kernels @ samples).reshape(batch, -1, out_height, out_width)


def _geometry_v1(options: dict[str, Any]) -> Geometry:
    return Geometry(
        (options['kH'], options['kW']),
        (options['dH'], options['dW']),
        (options['padH'], options['padW']),
        (options['dilationH'], options['dilationW']),
        options['group'],
        options['deformable_group'],
    )


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **options: Any,
) -> None:
    """mmcv's operator: writes :func:`deform_conv` into ``output``."""
    output.copy_(deform_conv(input, offset, None, weight, _geometry_v1(options)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: Any,
) -> None:
    """mmcv's operator: writes the gradients by features and offsets."""
    geometry = _geometry_v1(options)
    write_gradients(
        lambda x, o: deform_conv(x, o, None, weight, geometry),
        [input, offset],
        grad_output,
        [grad_input, grad_offset],
    )


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **options: Any,
) -> None:
    """mmcv's operator: writes the gradient by the kernel, times ``scale``."""
    geometry = _geometry_v1(options)
    write_gradients(
        lambda w: scale * deform_conv(input, offset, None, w, geometry),
        [grad_weight],
        grad_output,
        [grad_weight],
    )


def _geometry_v2(options: dict[str, Any]) -> Geometry:
    return Geometry(
        (options['kernel_h'], options['kernel_w']),
        (options['stride_h'], options['stride_w']),
        (options['pad_h'], options['pad_w']),
        (options['dilation_h'], options['dilation_w']),
        options['group'],
        options['deformable_group'],
    )


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **options: Any,
) -> None:
    """mmcv's operator: writes :func:`deform_conv` plus the bias into ``output``."""
    output.copy_(deform_conv(input, offset, mask, weight, _geometry_v2(options)))
    if with_bias:
        output.add_(bias[:, None, None])


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **options: Any,
) -> None:
    """mmcv's operator: writes the gradients by everything that is learned."""
    geometry = _geometry_v2(options)
    write_gradients(
        lambda x, o, m, w: deform_conv(x, o, m, w, geometry),
        [input, offset, mask, weight],
        grad_output,
        [grad_input, grad_offset, grad_mask, grad_weight],
    )
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))
