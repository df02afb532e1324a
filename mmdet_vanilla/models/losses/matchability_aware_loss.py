"""DEIM's classification loss (https://arxiv.org/abs/2412.04234, section 3.2)."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from torch import Tensor

from .rtdetr_varifocal_loss import RTDETRVarifocalLoss


@MODELS.register_module()
class MatchabilityAwareLoss(RTDETRVarifocalLoss):
    r"""Matchability-aware loss (MAL).

    Against the varifocal loss, the target of a matched query is :math:`q^\gamma` instead of its IoU
    q, its weight 1 instead of q, and negatives weigh :math:`p^\gamma` without an :math:`\alpha`:
    queries that are matched although their boxes are poor, of which there are many with dense
    one-to-one matching, still count in full.

    Args:
        gamma: Exponent of the IoU and of the negatives' modulation.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the result.
    """

    def __init__(
        self, gamma: float = 1.5, reduction: str = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__(alpha=1.0, gamma=gamma, reduction=reduction, loss_weight=loss_weight)

    def _target_and_weight(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        return quality.pow(self.gamma), torch.ones_like(quality)
