"""Puts off imports of mmdet that take seconds at every start and serve one transform each."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# What mmdet.datasets.transforms imports for its lane augmentation and for its corruptions.
_PUT_OFF = (
    'imgaug',
    'imgaug.augmenters',
    'imgaug.augmentables',
    'imgaug.augmentables.lines',
    'imgaug.augmentables.segmaps',
    'imagecorruptions',
)


class _DeferredModule(ModuleType):
    """A module of functions and classes that is imported when the first of them is called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Within it, mmdet can be imported without what it hardly ever needs.

    What was imported before is left as it is, and afterwards every import is an ordinary one.
    """
    modules = {
        name: _DeferredModule(name)
        for name in _PUT_OFF
        if name not in sys.modules and importlib.util.find_spec(name.split('.')[0])
    }
    for name, module in modules.items():
        module.__path__ = []  # those with a dot are looked for in their parents, which are packages
        sys.modules[name] = module
        parent, _, child = name.rpartition('.')
        if parent in modules:
            setattr(modules[parent], child, module)
    try:
        yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
