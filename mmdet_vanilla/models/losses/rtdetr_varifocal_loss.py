"""RT-DETR's IoU-aware classification loss (https://arxiv.org/abs/2304.08069, section 4.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class RTDETRVarifocalLoss(nn.Module):
    r"""Varifocal loss as RT-DETR trains with it.

    With p the predicted probability and q the IoU of the matched box, the binary cross-entropy of
    p against q is weighted with q for the class of a matched query and with
    :math:`\alpha p^\gamma` everywhere else; no gradient flows through the weight. mmdet's
    ``VarifocalLoss`` weights negatives by :math:`|p - q|^\gamma` with gradient instead.

    Args:
        alpha: Weight of the negatives.
        gamma: Exponent of the negatives' modulation.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the result.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction
        self.loss_weight = loss_weight

    def _target_and_weight(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """What the class of a matched query is trained towards, and how much it counts.

        Args:
            quality: IoU of the matched boxes, 0..1, any shape.

        Returns:
            Two tensors of that shape.
        """
        return quality, quality

    def forward(
        self,
        pred: Tensor,
        target: tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Computes the loss.

        Args:
            pred: Class logits (..., C).
            target: Labels (...), C for the background, and IoU of the matched box (...), 0..1.
            weight: Weights that broadcast to ``pred``.
            avg_factor: Divides the sum under ``'mean'``.
            reduction_override: Replaces ``reduction``.

        Returns:
            (..., C) under ``'none'``, else a scalar.
        """
        labels, quality = target
        num_classes = pred.shape[-1]
        # F.one_hot checks its labels, for which it waits for some devices.
        classes = torch.arange(num_classes, device=labels.device)
        one_hot = (labels.unsqueeze(-1) == classes).to(pred.dtype)
        quality, positive = self._target_and_weight(quality.to(pred.dtype).unsqueeze(-1))
        negative = self.alpha * pred.detach().sigmoid().pow(self.gamma)
        loss = F.binary_cross_entropy_with_logits(
            pred,
            quality * one_hot,
            weight=negative * (1 - one_hot) + positive * one_hot,
            reduction='none',
        )
        reduction = reduction_override or self.reduction
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, avg_factor)
