"""Lets Python find ``mmcv._ext`` where mmcv was installed without compiling it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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

EXTENSION = 'mmcv._ext'

# mmcv's name of each operator, as ``mmcv.ops`` looks it up.
_OPERATORS: dict[str, Callable] = {
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


class MissingOperatorError(NotImplementedError):
    """An operator of mmcv that is neither compiled nor written in PyTorch was called."""


def _missing(name: str) -> Callable:
    def operator(*args: Any, **kwargs: Any) -> None:
        raise MissingOperatorError(
            f'mmcv was installed without compiled operators, and {name} has no stand-in in '
            'PyTorch: compile mmcv (make setup-ops in a clone of mmdet_vanilla, or pip install '
            '--no-build-isolation --force-reinstall --no-deps onedl-mmcv with a C++ compiler).'
        )

    operator.__name__ = name
    return operator


class _Extension(ModuleType):
    """The module ``mmcv._ext``: mmcv asks for each name of it when its operators are imported."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        operator = _OPERATORS.get(name) or _missing(name)
        setattr(self, name, operator)
        return operator


class _Finder(MetaPathFinder, Loader):
    """Finds ``mmcv._ext``; asked last, and so only where there is no compiled one."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == EXTENSION else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Extension(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        logging.getLogger('mmdet_vanilla').debug(
            'mmcv has no compiled operators: those in PyTorch of mmdet_vanilla.ops are in use.'
        )


def install() -> None:
    """Lets ``import mmcv._ext`` succeed in this process. A second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def using_stand_ins() -> bool:
    """Whether mmcv's operators are those of this package in this process."""
    import mmcv._ext

    return isinstance(mmcv._ext, _Extension)


def names_in_python() -> list[str]:
    """mmcv's names of the operators that this package has."""
    return sorted(_OPERATORS)
