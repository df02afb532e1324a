"""Activations that are computed again in the backward pass instead of being kept for it.

A convolution keeps its input for the backward pass, and so does the normalisation behind it. What
lies between two convolutions, normalisation and activation, costs little to compute, and its result
is as large as a feature map: kept once as the input of the normalisation, it need not be kept again
as the input of the next convolution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Deferred:
    """The result of a cheap function, computed where it is needed, and once more for gradients.

    Results and gradients are those of calling the function at once, and running statistics are
    updated once.

    Args:
        function: Maps the inputs to one tensor.
        inputs: Tensors, which are kept.
        modules: Normalisation layers that the function calls.
    """

    def __init__(
        self, function: Callable[..., Tensor], inputs: Sequence[Tensor], modules: Sequence = ()
    ) -> None:
        self.function = function
        self.inputs = tuple(inputs)
        self.norms = [m for m in modules if isinstance(m, _BatchNorm)]

    def map(self, function: Callable[..., Tensor], *others: Deferred) -> Deferred:
        """Defers one more function, of this result and that of others."""
        parts = (self, *others)
        counts = [len(part.inputs) for part in parts]

        def joined(*inputs: Tensor) -> Tensor:
            split, first = [], 0
            for part, count in zip(parts, counts):
                split.append(part.function(*inputs[first : first + count]))
                first += count
            return function(*split)

        inputs = [x for part in parts for x in part.inputs]
        return Deferred(joined, inputs, [norm for part in parts for norm in part.norms])

    def then(self, *consumers: nn.Module) -> tuple[Tensor, ...]:
        """Applies modules to the result, without keeping it.

        Args:
            consumers: Modules that keep nothing but their input and parameters, such as
                convolutions; all but the last one run twice.

        Returns:
            The outputs.
        """

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            x = self.function(*inputs)
            return tuple(consumer(x) for consumer in consumers)

        return self._call(run)

    def value(self) -> Tensor:
        """The result."""
        return self._call(self.function)

    def _call(self, function: Callable) -> Tensor | tuple[Tensor, ...]:
        has_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in self.inputs)
        if not has_gradient or torch.jit.is_tracing():
            return function(*self.inputs)
        # The second run stops at the last tensor that it has to restore, which is the input of the
        # last consumer: the consumer itself does not run again.
        return checkpoint(
            function,
            *self.inputs,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (contextlib.nullcontext(), _spare_statistics(self.norms)),
        )


@contextlib.contextmanager
def _spare_statistics(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Lets the second run update copies of the running statistics."""
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept):
        norm._buffers.update({name: b if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept):
            norm._buffers.update(buffers)
