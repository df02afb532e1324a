"""The operators that are written in PyTorch, by mmcv's names."""

from collections.abc import Callable

from . import (
    boxes,
    carafe,
    deform_attention,
    deform_conv,
    focal_loss,
    masked_conv,
    roi_align,
    roi_pool,
)

# mmcv's name of each operator, as ``mmcv.ops`` looks it up.
OPERATORS: dict[str, Callable] = {
    'nms': boxes.nms,
    'softnms': boxes.softnms,
    'nms_match': boxes.nms_match,
    'bbox_overlaps': boxes.bbox_overlaps,
    'roi_align_forward': roi_align.roi_align_forward,
    'roi_align_backward': roi_align.roi_align_backward,
    'roi_pool_forward': roi_pool.roi_pool_forward,
    'roi_pool_backward': roi_pool.roi_pool_backward,
    'deform_conv_forward': deform_conv.deform_conv_forward,
    'deform_conv_backward_input': deform_conv.deform_conv_backward_input,
    'deform_conv_backward_parameters': deform_conv.deform_conv_backward_parameters,
    'modulated_deform_conv_forward': deform_conv.modulated_deform_conv_forward,
    'modulated_deform_conv_backward': deform_conv.modulated_deform_conv_backward,
    'sigmoid_focal_loss_forward': focal_loss.sigmoid_focal_loss_forward,
    'sigmoid_focal_loss_backward': focal_loss.sigmoid_focal_loss_backward,
    'ms_deform_attn_forward': deform_attention.ms_deform_attn_forward,
    'ms_deform_attn_backward': deform_attention.ms_deform_attn_backward,
    'carafe_forward': carafe.carafe_forward,
    'carafe_backward': carafe.carafe_backward,
    'masked_im2col_forward': masked_conv.masked_im2col_forward,
    'masked_col2im_forward': masked_conv.masked_col2im_forward,
    'get_compiler_version': lambda: 'not compiled',
    # mmcv's word for operators without CUDA.
    'get_compiling_cuda_version': lambda: 'not available',
}
