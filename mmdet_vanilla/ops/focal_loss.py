"""Sigmoid focal loss (arXiv 1708.02002)."""

from __future__ import annotations

import torch
from torch import Tensor

from .gradients import write_gradients


def focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Focal loss of every class.

    Args:
        logits: Shape (N, C).
        target: Class of each row, 0..C; C is the background.
        weight: Weight of the rows of each class, shape (C,), or empty.
        gamma: Power of the modulating factor.
        alpha: Weight of the positive class.

    Returns:
        Shape (N, C).
    """
    p = logits.sigmoid()
    tiny = torch.finfo(torch.float32).tiny
    positive = target[:, None] == torch.arange(logits.shape[1], device=logits.device)
    loss = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * p.clamp(min=tiny).log(),
        -(1 - alpha) * p**gamma * (1 - p).clamp(min=tiny).log(),
    )
    if weight.numel():
        # The background has no weight of its own: that of the last class stands for it.
        loss = loss * weight[target.clamp(max=len(weight) - 1), None]
    return loss


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """mmcv's operator: writes :func:`focal_loss` into ``output``."""
    output.copy_(focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """mmcv's operator: writes the derivative of each loss by its own logit into ``grad_input``."""
    write_gradients(
        lambda logits: focal_loss(logits, target, weight, gamma, alpha),
        [input],
        torch.ones_like(input),
        [grad_input],
    )
