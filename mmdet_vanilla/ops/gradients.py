"""What turns a differentiable function into the in-place backward operators that mmcv calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def write_gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad_output: Tensor,
    targets: Sequence[Tensor],
) -> None:
    """Writes the gradients of a function into the tensors that mmcv allocated for them.

    Args:
        function: Differentiable function of ``inputs``.
        inputs: Tensors to differentiate by.
        grad_output: Gradient of the function's result, of its shape.
        targets: One tensor for each input, of its shape, which is overwritten.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    grads = torch.autograd.grad(output, leaves, grad_output, allow_unused=True)
    for target, grad in zip(targets, grads):
        target.zero_() if grad is None else target.copy_(grad)
