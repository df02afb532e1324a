"""Standard ONNX operators where mmdeploy writes its own or decomposes.

mmdeploy exports every ``grid_sampler`` as an operator of its own, which no stock runtime has, and
takes ``layer_norm`` apart, which loses precision in float16 and speed in every runtime.
"""

from __future__ import annotations

from mmdeploy.core import SYMBOLIC_REWRITER
from mmdeploy.utils import IR

from .errors import DeployError

# ONNX's own versions of the two operators.
GRID_SAMPLE_OPSET = 16
LAYER_NORM_OPSET = 17
_LINEAR_MODE_OPSET = 20  # in which GridSample's mode 'bilinear' became 'linear'

_PADDING = ('zeros', 'border', 'reflection')


@SYMBOLIC_REWRITER.register_symbolic(
    'grid_sampler', is_pytorch=True, ir=IR.ONNX, arg_descriptors=['v', 'v', 'i', 'i', 'b']
)
def grid_sampler__onnx(g, input, grid, mode, padding_mode, align_corners):
    """``GridSample``."""
    if g.opset < GRID_SAMPLE_OPSET:
        raise DeployError(
            f'opset {g.opset} has no GridSample: set onnx_config.opset_version to '
            f"{GRID_SAMPLE_OPSET} or more, or sampling_method='discrete' in model.bbox_head."
        )
    linear = g.opset >= _LINEAR_MODE_OPSET
    modes = ('linear' if linear else 'bilinear', 'nearest', 'cubic' if linear else 'bicubic')
    return g.op(
        'GridSample',
        input,
        grid,
        mode_s=modes[mode],
        padding_mode_s=_PADDING[padding_mode],
        align_corners_i=int(align_corners),
    )


@SYMBOLIC_REWRITER.register_symbolic(
    'layer_norm',
    is_pytorch=True,
    ir=IR.ONNX,
    arg_descriptors=['v', 'is', 'v', 'v', 'f', 'none'],
)
def layer_norm__onnx(g, input, normalized_shape, weight, bias, eps, cudnn_enable):
    """``LayerNormalization``."""
    return g.op(
        'LayerNormalization', input, weight, bias, axis_i=-len(normalized_shape), epsilon_f=eps
    )
