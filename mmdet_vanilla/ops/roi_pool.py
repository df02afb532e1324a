"""RoIPool: the maximum of the cells in each bin of a region (arXiv 1504.08083)."""

from __future__ import annotations

import torch
from torch import Tensor

from .roi_align import counts_to_indices


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
    channels, height, width = input.shape[1:]
    size = (pooled_height, pooled_width)
    start = rois[:, [2, 1]] * spatial_scale  # y, x
    extent = (rois[:, [4, 3]] + 1) * spatial_scale - start
    limit = extent.new_tensor([height, width])
    roi = torch.arange(len(rois), device=rois.device).repeat_interleave(size[0] * size[1])
    place = torch.cartesian_prod(*(torch.arange(number) for number in size)).to(rois)
    place = place.repeat(len(rois), 1)  # (R * P * Q, 2)
    step = (extent / extent.new_tensor(size))[roi]
    first = (place * step + start[roi]).floor().clamp(min=0).minimum(limit).long()
    end = ((place + 1) * step + start[roi]).ceil().clamp(min=0).minimum(limit).long()
    sides = (end - first).clamp(min=0) * (extent > 0).all(1)[roi, None]

    counts = sides.prod(1)
    bin_, number = counts_to_indices(counts)
    row = first[bin_, 0] + number // sides[bin_, 1]
    column = first[bin_, 1] + number % sides[bin_, 1]
    image = rois[roi, 0].long() * height * width
    table = input.permute(0, 2, 3, 1).reshape(-1, channels)  # (N * H * W, C)
    # One bag of cells for each bin. The function in torch.nn.functional does not return the cells.
    values, _, _, cells = torch.embedding_bag(
        table, image[bin_] + row * width + column, counts.cumsum(0) - counts, False, 2
    )
    found = (counts > 0)[:, None]
    cells = torch.where(found, cells - image[:, None], -1)
    output.copy_(_to_maps(torch.where(found, values, 0), output))
    argmax.copy_(_to_maps(cells, output))


def _to_maps(rows: Tensor, output: Tensor) -> Tensor:
    """(R * P * Q, C) as (R, C, P, Q)."""
    count, channels, height, width = output.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


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
