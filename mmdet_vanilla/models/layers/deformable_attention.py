"""Multi-scale deformable attention with bilinear or discrete sampling.

Deformable DETR (https://arxiv.org/abs/2010.04159, equation 3) as RT-DETR uses it, and RT-DETRv2's
options (https://arxiv.org/abs/2407.17140, section 3.1): a number of points per level, and sampling
by rounded coordinates, which needs no ``grid_sample``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import get_compiling_cuda_version
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor, nn

SAMPLING_METHODS = ('bilinear', 'discrete')


def _sample_bilinear(value: Tensor, locations: Tensor) -> Tensor:
    """Bilinear samples with zeros outside.

    Args:
        value: Feature maps (B, C, H, W).
        locations: Positions (B, Q, P, 2), x and y, 0..1 across the map.

    Returns:
        (B, C, Q, P).
    """
    return F.grid_sample(value, 2 * locations - 1, align_corners=False)


def _sample_discrete(value: Tensor, locations: Tensor) -> Tensor:
    """Values of the cells that contain the positions, clamped to the map; as _sample_bilinear.

    The authors' code clamps both axes by the height, so it is wrong on maps wider than high;
    this one clamps each axis by its own size.
    """
    batch, channels, height, width = value.shape
    _, num_queries, num_points, _ = locations.shape
    # The authors add 0.5 before truncating; the index of a cell would not need it. The published
    # weights were tuned with it.
    x = (locations[..., 0] * width + 0.5).to(torch.int64).clamp(0, width - 1)
    y = (locations[..., 1] * height + 0.5).to(torch.int64).clamp(0, height - 1)
    index = (y * width + x).reshape(batch, 1, -1).expand(-1, channels, -1)
    return value.flatten(2).gather(2, index).reshape(batch, channels, num_queries, num_points)


_SAMPLERS = dict(bilinear=_sample_bilinear, discrete=_sample_discrete)


def deformable_attention(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    num_points: Sequence[int],
    method: str = 'bilinear',
) -> Tensor:
    """Weighted sum of values sampled on several levels.

    Args:
        value: (N, sum(H_l * W_l), heads, D), levels one after the other, row by row.
        spatial_shapes: (H_l, W_l) of every level.
        locations: (N, Q, heads, sum(num_points), 2), x and y, 0..1 across each level.
        weights: (N, Q, heads, sum(num_points)).
        num_points: Points of every level.
        method: ``'bilinear'`` or ``'discrete'``.

    Returns:
        (N, Q, heads * D).
    """
    heads, dim = value.shape[2:]
    num_queries = locations.shape[1]
    if _cuda_operator_applies(value, num_points, method):
        return _cuda_operator(value, spatial_shapes, locations, weights, num_points[0])
    levels = value.split([h * w for h, w in spatial_shapes], dim=1)
    # (N * heads, Q, points, 2)
    locations = locations.transpose(1, 2).flatten(0, 1)
    samples = []
    for level, (h, w), points in zip(levels, spatial_shapes, locations.split(num_points, dim=2)):
        maps = level.permute(0, 2, 3, 1).reshape(-1, dim, h, w)  # (N * heads, D, H, W)
        samples.append(_SAMPLERS[method](maps, points))
    # (N * heads, 1, Q, points)
    weights = weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)
    out = (torch.cat(samples, dim=-1) * weights).sum(-1)
    return out.reshape(-1, heads * dim, num_queries).transpose(1, 2)


@functools.cache
def _has_cuda_operator() -> bool:
    # mmcv may have been compiled for the CPU alone while torch has CUDA.
    return get_compiling_cuda_version() != 'not available'


def _cuda_operator_applies(value: Tensor, num_points: Sequence[int], method: str) -> bool:
    return (
        value.is_cuda
        and _has_cuda_operator()
        and value.dtype in (torch.float32, torch.float64, torch.float16)
        and method == 'bilinear'
        and len(set(num_points)) == 1
        and not torch.jit.is_tracing()
    )


def _cuda_operator(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    num_points: int,
) -> Tensor:
    shapes = torch.tensor(spatial_shapes, device=value.device)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    by_level = (len(spatial_shapes), num_points)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        shapes,
        starts,
        locations.unflatten(3, by_level).to(value.dtype).contiguous(),
        weights.unflatten(3, by_level).to(value.dtype).contiguous(),
        # Images per step: the operator wants a divisor of the batch.
        math.gcd(len(value), 64),
    )


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention around reference boxes.

    A sampling point of level l lies at ``centre + offset / num_points[l] * size * offset_scale``.

    Args:
        channels: Channels of a query and of the values.
        num_heads: Attention heads.
        num_levels: Feature levels.
        num_points: Points per level: one number for all, or one per level.
        offset_scale: Share of the box that an offset of ``num_points`` spans.
        method: ``'bilinear'`` or ``'discrete'`` (offsets are then not trained).
    """

    def __init__(
        self,
        channels: int = 256,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int | Sequence[int] = 4,
        offset_scale: float = 0.5,
        method: str = 'bilinear',
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f'{channels} channels cannot be split into {num_heads} heads.')
        if method not in SAMPLING_METHODS:
            raise ValueError(f'sampling method {method!r}: expected one of {SAMPLING_METHODS}.')
        points = [num_points] * num_levels if isinstance(num_points, int) else list(num_points)
        if len(points) != num_levels or min(points) < 1:
            raise ValueError(
                f'num_points={num_points} for {num_levels} levels: expected one number >= 1, or '
                'one per level.'
            )
        self.num_heads = num_heads
        self.num_points = points
        self.offset_scale = offset_scale
        self.method = method
        total = num_heads * sum(points)
        self.sampling_offsets = nn.Linear(channels, 2 * total)
        self.attention_weights = nn.Linear(channels, total)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        # Points of the level that each sampling point lies on.
        divisor = torch.tensor([float(n) for n in points for _ in range(n)])
        self.register_buffer('points_of_level', divisor[:, None], persistent=False)
        self._reset_parameters()
        if method == 'discrete':
            # Rounding has no gradient with respect to the offsets.
            self.sampling_offsets.requires_grad_(False)

    def _reset_parameters(self) -> None:
        """Points start on rays, one direction per head, one step further per point."""
        nn.init.zeros_(self.sampling_offsets.weight)
        theta = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        rays = torch.stack([theta.cos(), theta.sin()], dim=-1)
        rays = rays / rays.abs().amax(-1, keepdim=True)
        steps = torch.cat([torch.arange(1, n + 1) for n in self.num_points])
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((rays[:, None] * steps[:, None]).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for proj in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(proj.weight)
            nn.init.zeros_(proj.bias)

    def forward(
        self,
        query: Tensor,
        reference_boxes: Tensor,
        memory: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Attends to the memory.

        Args:
            query: (N, Q, C).
            reference_boxes: (N, Q, 4), cx, cy, w, h, 0..1 across the image.
            memory: (N, sum(H_l * W_l), C).
            spatial_shapes: (H_l, W_l) of every level.

        Returns:
            (N, Q, C).
        """
        n, num_queries, _ = query.shape
        value = self.value_proj(memory).unflatten(-1, (self.num_heads, -1))
        shape = (n, num_queries, self.num_heads, sum(self.num_points))
        offsets = self.sampling_offsets(query).reshape(*shape, 2)
        weights = self.attention_weights(query).reshape(shape).softmax(-1)
        boxes = reference_boxes[:, :, None, None]
        shift = offsets / self.points_of_level * boxes[..., 2:] * self.offset_scale
        locations = boxes[..., :2] + shift
        # Half precision would round a position by more than a pixel.
        dtype = torch.promote_types(value.dtype, torch.float32)
        out = deformable_attention(
            value.to(dtype),
            spatial_shapes,
            locations.to(dtype),
            weights.to(dtype),
            self.num_points,
            self.method,
        )
        return self.output_proj(out.to(query.dtype))
