"""Compares two sets of detections of one image, whatever their order.

Equal programs in different precision order near-equal scores differently, so detections are first
paired by box, and labels, scores and coordinates are compared within the pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor


class DetectionDifference(NamedTuple):
    """Largest differences over the pairs of two sets of detections."""

    num_unmatched: int  # detections of either set without a partner
    num_labels: int  # pairs whose labels differ
    score: float  # largest difference of scores, 0..1
    box: float  # largest difference of a coordinate, in pixels


def match_detections(
    boxes_a: Tensor, labels_a: Tensor, boxes_b: Tensor, labels_b: Tensor, iou_thr: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Pairs detections greedily by IoU, the best pair first.

    Several detections of one query share a box and differ in their label, so that among boxes of
    equal IoU a pair of equal labels comes first.

    Args:
        boxes_a: (A, 4), x1, y1, x2, y2.
        labels_a: (A,).
        boxes_b: (B, 4).
        labels_b: (B,).
        iou_thr: Least IoU of a pair.

    Returns:
        Indices (P,) into A and (P,) into B of the pairs.
    """
    iou = bbox_overlaps(boxes_a.double(), boxes_b.double(), eps=1e-12)
    # Larger than rounding moves an IoU, smaller than what tells two boxes apart.
    priority = iou + 1e-3 * (labels_a[:, None] == labels_b)
    order = priority.flatten().argsort(descending=True)
    order = order[(iou.flatten() >= iou_thr)[order]]
    rows, columns = (order // len(boxes_b)).tolist(), (order % len(boxes_b)).tolist()
    used_a, used_b, pairs = set(), set(), []
    for row, column in zip(rows, columns):
        if row not in used_a and column not in used_b:
            used_a.add(row)
            used_b.add(column)
            pairs.append((row, column))
    return tuple(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1))


def compare_detections(a: InstanceData, b: InstanceData) -> DetectionDifference:
    """Compares two sets of detections.

    Args:
        a: ``bboxes`` (A, 4), ``labels`` (A,) and ``scores`` (A,).
        b: The same of another program.

    Returns:
        The largest differences.
    """
    rows, columns = match_detections(a.bboxes, a.labels, b.bboxes, b.labels)
    unmatched = len(a) + len(b) - 2 * len(rows)
    if len(rows) == 0:
        return DetectionDifference(unmatched, 0, 0.0, 0.0)
    a, b = a[rows], b[columns]
    return DetectionDifference(
        unmatched,
        int((a.labels != b.labels).sum()),
        (a.scores.double() - b.scores.double()).abs().max().item(),
        (a.bboxes.double() - b.bboxes.double()).abs().max().item(),
    )
