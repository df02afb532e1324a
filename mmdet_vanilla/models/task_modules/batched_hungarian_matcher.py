"""One-to-one matching of queries to objects (DETR, https://arxiv.org/abs/2005.12872, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..layers.denoising import box_cxcywh_to_xyxy, pad_targets

_FIRST = -1e6  # far below any cost of a finite prediction


@TASK_UTILS.register_module()
class BatchedHungarianMatcher:
    """Matches all decoder layers and images of a batch at once.

    The costs of all layers are computed in one go and cross to the CPU, where the assignment is
    solved, in one transfer, whatever the number of layers.

    Args:
        cls_weight: Weight of the classification cost, the focal loss of a positive less that of a
            negative.
        l1_weight: Weight of the L1 distance of the boxes (cx, cy, w, h, 0..1).
        giou_weight: Weight of the negative generalised IoU.
        alpha: Of the focal cost.
        gamma: Of the focal cost.
    """

    def __init__(
        self,
        cls_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        self.cls_weight = cls_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.alpha = alpha
        self.gamma = gamma

    def cost(self, logits: Tensor, boxes: Tensor, gt_labels: Tensor, gt_boxes: Tensor) -> Tensor:
        """Cost of every pair of a query and an object.

        Args:
            logits: (L, N, Q, C).
            boxes: (L, N, Q, 4), cx, cy, w, h, 0..1.
            gt_labels: (N, G).
            gt_boxes: (N, G, 4).

        Returns:
            (L, N, Q, G).
        """
        num_layers, _, num_queries, _ = logits.shape
        index = gt_labels[None, :, None].expand(num_layers, -1, num_queries, -1)
        p = logits.gather(-1, index).sigmoid()
        eps = 1e-8
        positive = self.alpha * (1 - p) ** self.gamma * -(p + eps).log()
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + eps).log()
        targets = gt_boxes.to(boxes.dtype)[None].expand(num_layers, -1, -1, -1)
        giou = bbox_overlaps(
            box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(targets), mode='giou', eps=1e-9
        )
        return (
            self.cls_weight * (positive - negative)
            + self.l1_weight * torch.cdist(boxes, targets, p=1)
            - self.giou_weight * giou
        )

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        gt_labels: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Matches.

        Args:
            logits: Class logits (L, N, Q, C) of L decoder layers.
            boxes: (L, N, Q, 4), cx, cy, w, h, 0..1.
            gt_labels: Of every image, (G_i,).
            gt_boxes: Of every image, (G_i, 4).

        Returns:
            Indices (M,) of the matched queries in the flattened (L * N * Q) predictions, and
            indices (M,) of their objects in the concatenated objects of the batch. Predictions that
            are not finite are matched first, so that the loss is not finite either.
        """
        num_layers, n, num_queries, _ = logits.shape
        counts = [len(labels) for labels in gt_labels]
        if not sum(counts):
            empty = torch.empty(0, dtype=torch.long, device=logits.device)
            return empty, empty
        cost = self.cost(logits, boxes, *pad_targets(gt_labels, gt_boxes, 0)).cpu().numpy()
        # scipy refuses what is not finite. The loss says it better, and a loss scaler needs one.
        cost = np.nan_to_num(cost, nan=_FIRST, posinf=_FIRST, neginf=_FIRST)
        first = np.cumsum([0, *counts])
        queries, objects = [], []
        for layer in range(num_layers):
            for image, count in enumerate(counts):
                rows, columns = linear_sum_assignment(cost[layer, image, :, :count])
                queries.append((layer * n + image) * num_queries + rows)
                objects.append(first[image] + columns)
        matches = torch.from_numpy(np.stack([np.concatenate(queries), np.concatenate(objects)]))
        return tuple(matches.to(logits.device))
