"""Lets Python find ``mmcv._ext`` where mmcv was installed without compiling it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

EXTENSION = 'mmcv._ext'


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
        from .operators import OPERATORS  # imports torch

        operator = OPERATORS.get(name) or _missing(name)
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
