"""RoIAlign: features of regions, sampled between the cells of a map (arXiv 1703.06870)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .gradients import write_gradients

MAXIMUM = 0


def counts_to_indices(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``counts`` (n,) things in n groups: each one's group, and its number in the group."""
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = counts.cumsum(0) - counts
    return group, torch.arange(len(group), device=counts.device) - first[group]


def _corners(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around a position along one axis, and the weight of the second one.

    Positions within one cell outside of the map count as on its border.
    """
    position = position.clamp(min=0)
    low = position.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    weight = torch.where(low == size - 1, 0, position - low)
    return low, high, weight


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> Tensor:
    """Features of regions.

    Args:
        features: Shape (N, C, H, W).
        rois: Shape (R, 5): number of the image, then ``(x1, y1, x2, y2)`` in pixels of the image.
        output_size: Height P and width Q of the result, in bins.
        spatial_scale: Cells of the map to a pixel.
        sampling_ratio: Samples along each side of a bin; 0 for as many as it has cells, rounded
            up.
        pool_mode: ``MAXIMUM`` of a bin's samples, otherwise their mean.
        aligned: Whether the centre of the first cell lies at 0.5 instead of 0.

    Returns:
        Shape (R, C, P, Q).
    """
    channels, height, width = features.shape[1:]
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (N * H * W, C)
    num_bins = output_size[0] * output_size[1]
    rois = rois.to(features.dtype)
    start = rois[:, [2, 1]] * spatial_scale - (0.5 if aligned else 0.0)  # (R, 2): y, x
    size = rois[:, [4, 3]] * spatial_scale - (0.5 if aligned else 0.0) - start
    if not aligned:
        size = size.clamp(min=1)
    elif bool((size < 0).any()):
        raise ValueError('roi_align expects x1 <= x2 and y1 <= y2 of every region.')
    bin_size = size / size.new_tensor(output_size)
    if sampling_ratio > 0:
        grid = torch.full_like(size, sampling_ratio, dtype=torch.long)
    else:
        grid = bin_size.ceil().long()

    # One row for each bin (r, p, q), one bag of samples for each bin: the number differs by region.
    roi = torch.arange(len(rois), device=rois.device).repeat_interleave(num_bins)
    place = torch.arange(num_bins, device=rois.device).repeat(len(rois))
    place = torch.stack([place // output_size[1], place % output_size[1]], -1)  # (R * P * Q, 2)
    bag, number = counts_to_indices(grid.prod(1)[roi])
    roi, place = roi[bag], place[bag]
    sample = torch.stack([number // grid[roi, 1], number % grid[roi, 1]], -1)
    step = bin_size[roi]
    position = start[roi] + place * step + (sample + 0.5) * step / grid[roi]  # (S, 2)

    limit = position.new_tensor([height, width])
    inside = ((position >= -1) & (position <= limit)).all(-1)
    top, bottom, dy = _corners(position[:, 0], height)
    left, right, dx = _corners(position[:, 1], width)
    image = rois[roi, 0].long() * height * width
    cells = torch.stack(
        [image + row * width + column for row in (top, bottom) for column in (left, right)], -1
    )  # (S, 4)
    weights = torch.stack([wy * wx for wy in (1 - dy, dy) for wx in (1 - dx, dx)], -1)
    weights = weights * inside[:, None]

    if pool_mode == MAXIMUM:
        samples = F.embedding_bag(cells, table, mode='sum', per_sample_weights=weights)
        out = table.new_zeros(len(rois) * num_bins, channels)
        out = out.index_reduce(0, bag, samples, 'amax', include_self=False)
    else:
        counts = grid.prod(1)
        weights = weights / counts[roi, None]
        sizes = 4 * counts.repeat_interleave(num_bins)
        out = F.embedding_bag(
            cells.flatten(),
            table,
            sizes.cumsum(0) - sizes,
            mode='sum',
            per_sample_weights=weights.flatten(),
        )
    return out.view(len(rois), *output_size, channels).permute(0, 3, 1, 2)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """mmcv's operator: writes :func:`roi_align` into ``output``."""
    if len(rois):
        size = (aligned_height, aligned_width)
        output.copy_(
            roi_align(input, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned)
        )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """mmcv's operator: writes the gradient by the features into ``grad_input``.

    Raises:
        NotImplementedError: For the maximum, of which mmcv keeps no features.
    """
    if pool_mode == MAXIMUM:
        raise NotImplementedError(
            "roi_align with pool_mode='max' cannot be trained without compiled operators: use "
            "pool_mode='avg', or compile mmcv (make setup-ops)."
        )
    if len(rois):
        size = (aligned_height, aligned_width)

        def forward(features: Tensor) -> Tensor:
            return roi_align(features, rois, size, spatial_scale, sampling_ratio, 1, aligned)

        # The mean is linear: its gradient does not depend on the features.
        write_gradients(forward, [grad_input], grad_output, [grad_input])
