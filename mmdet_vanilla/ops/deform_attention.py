"""Multi-scale deformable attention (arXiv 2010.04159), by mmcv's own function in PyTorch.

mmcv's modules call that function themselves on a CPU; on a GPU they call the operator, which is
what these two stand for.
"""

from __future__ import annotations

from torch import Tensor

from .gradients import write_gradients


def _attention(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """mmcv's operator.

    Args:
        value: Shape (N, K, heads, D) with K cells of all levels.
        value_spatial_shapes: Height and width of each level, shape (L, 2).
        value_level_start_index: Number of each level's first cell; follows from the shapes.
        sampling_locations: Shape (N, Q, heads, L, P, 2), x and y in 0..1 of the level.
        attention_weights: Shape (N, Q, heads, L, P).
        im2col_step: Of no meaning here.

    Returns:
        Shape (N, Q, heads * D).
    """
    return _attention(value, value_spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """mmcv's operator: writes the gradients by values, places and weights."""
    write_gradients(
        lambda v, s, w: _attention(v, value_spatial_shapes, s, w),
        [value, sampling_locations, attention_weights],
        grad_output,
        [grad_value, grad_sampling_loc, grad_attn_weight],
    )
