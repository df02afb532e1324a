"""RoIPool: the maximum of the cells in each bin of a region (arXiv 1504.08083)."""

from __future__ import annotations

import torch
from torch import Tensor


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """mmcv's operator.

    Args:
        input: Features, shape (N, C, H, W).
        rois: Shape (R, 5): number of the image, then ``(x1, y1, x2, y2)`` in pixels of the image;
            the pixels of ``x2`` and ``y2`` belong to the region.
        output: Result, shape (R, C, P, Q): each bin's maximum, 0 for bins without a cell.
        argmax: Cell of each maximum, ``y * W + x``; -1 for bins without a cell. Of ``output``'s
            shape.
        pooled_height: P.
        pooled_width: Q.
        spatial_scale: Cells of the map to a pixel.
    """
    height, width = input.shape[2:]
    output.zero_()
    argmax.fill_(-1)
    start = rois[:, 1:3] * spatial_scale  # x, y
    size = (rois[:, 3:5] + 1) * spatial_scale - start
    columns = _bins(start[:, 0], size[:, 0], pooled_width, width)
    rows = _bins(start[:, 1], size[:, 1], pooled_height, height)
    for number, (image, (width_, height_)) in enumerate(zip(rois[:, 0].long(), size.tolist())):
        if width_ <= 0 or height_ <= 0:
            continue
        for p, (top, bottom) in enumerate(rows[number]):
            for q, (left, right) in enumerate(columns[number]):
                if top < bottom and left < right:
                    cells = input[image, :, top:bottom, left:right]
                    value, place = cells.flatten(1).max(1)
                    row, column = place // (right - left), place % (right - left)
                    output[number, :, p, q] = value
                    argmax[number, :, p, q] = ((top + row) * width + left + column).int()


def _bins(start: Tensor, size: Tensor, number: int, limit: int) -> list:
    """First cell of each bin and the first one after it, along one axis, as (R, number, 2)."""
    step = (size / number)[:, None]
    place = torch.arange(number, device=start.device)
    first = (place * step + start[:, None]).floor()
    end = ((place + 1) * step + start[:, None]).ceil()
    return torch.stack([first, end], -1).clamp(0, limit).long().tolist()


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """mmcv's operator: adds each bin's gradient to the cell that was its maximum."""
    flat = grad_input.flatten(2)  # a view: mmcv's gradient is contiguous
    for number, image in enumerate(rois[:, 0].long()):
        cells = argmax[number].flatten(1).long()  # (C, P * Q)
        grads = grad_output[number].flatten(1) * (cells >= 0)
        flat[image].scatter_add_(1, cells.clamp(min=0), grads)
