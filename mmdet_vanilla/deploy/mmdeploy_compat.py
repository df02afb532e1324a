"""Lets mmdeploy 1.3.1 (2023) export with a current torch; does nothing where that is not needed.

- torch 2.9 made ``torch.onnx.export`` use its new exporter, which runs past mmdeploy's rewriters
  and symbolics: exports of mmdeploy ask for the one that it was written for.
- torch.fx keeps the functions of ``torch.fx.wrap`` in a dict since torch 2.5, and mmdeploy handles
  them as a list: it gets a list's view of the dict.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.core.rewriters import function_rewriter


class WrappedFunctions:
    """What mmdeploy does with torch.fx's list of wrapped functions, on the dict of today.

    Args:
        functions: torch.fx's ``_wrapped_fns_to_patch``: (id of the globals, name) to the globals.
    """

    def __init__(self, functions: dict[tuple[int, str], dict]) -> None:
        self.functions = functions

    def __len__(self) -> int:
        return len(self.functions)

    def __iter__(self) -> Iterator[tuple[dict, str]]:
        for (_, name), globals_ in self.functions.items():
            yield globals_, name

    def append(self, item: tuple[dict, str]) -> None:
        """Adds a function as (globals, name)."""
        globals_, name = item
        self.functions[id(globals_), name] = globals_

    def pop(self, index: int = -1) -> tuple[dict, str]:
        """Takes the function that was added last."""
        if index != -1:
            raise IndexError(f'pop({index}): only the last function can be taken.')
        (_, name), globals_ = self.functions.popitem()
        return globals_, name


def apply() -> None:
    """Applies what is needed; no effect the second time."""
    if isinstance(function_rewriter._wrapped_fns_to_patch, dict):
        function_rewriter._wrapped_fns_to_patch = WrappedFunctions(
            function_rewriter._wrapped_fns_to_patch
        )


if 'dynamo' in inspect.signature(torch.onnx.export).parameters:

    @FUNCTION_REWRITER.register_rewriter('torch.onnx.export')
    def export__by_tracing(*args, **kwargs) -> Any:
        """``torch.onnx.export`` by tracing, inside mmdeploy's exports only."""
        ctx = FUNCTION_REWRITER.get_context()
        return ctx.origin_func(*args, **{'dynamo': False, **kwargs})


apply()
