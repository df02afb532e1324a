"""Overlaps of boxes, and the suppressions built on them.

Boxes are ``(x1, y1, x2, y2)`` in any unit. ``offset`` is added to widths and heights: 1 where a
box's corners are pixels that belong to it, otherwise 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Boxes whose overlaps with all later ones are computed at once: bounds the memory, 512 x N.
_BLOCK = 512

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def _areas(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0] + offset) * (boxes[..., 3] - boxes[..., 1] + offset)


def _intersections(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    """Areas of the intersections of boxes whose leading dimensions broadcast."""
    width, height = (
        torch.minimum(boxes1[..., axis + 2], boxes2[..., axis + 2])
        .sub_(torch.maximum(boxes1[..., axis], boxes2[..., axis]))
        .add_(offset)
        .clamp_(min=0)
        for axis in (0, 1)
    )
    return width.mul_(height)


def _ious(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    inter = _intersections(boxes1, boxes2, offset)
    return inter / (_areas(boxes1, offset) + _areas(boxes2, offset) - inter)


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Writes overlaps into ``ious``.

    Args:
        bboxes1: Boxes, shape (M, 4).
        bboxes2: Boxes, shape (N, 4).
        ious: Result, shape (M, N), or (M,) if ``aligned``.
        mode: 0 for intersection over union, 1 for intersection over the area of the first box.
        aligned: Whether box i of the one is compared with box i of the other alone.
        offset: 0 or 1.
    """
    first = bboxes1 if aligned else bboxes1[:, None]
    if mode == 0:
        ious.copy_(_ious(first, bboxes2, offset))
    else:
        ious.copy_(_intersections(first, bboxes2, offset) / _areas(first, offset))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes: Shape (N, 4).
        scores: Shape (N,).
        iou_threshold: A box is dropped if its IoU with a better one that is kept is above this.
        offset: 0 or 1.

    Returns:
        Indices of the boxes that are kept, best first; equal scores in the order of the input.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    kept = []
    while len(order):
        block = boxes[:_BLOCK]
        over = _ious(block[:, None], boxes[None], offset) > iou_threshold  # (block, rest)
        best = _greedy(over[:, : len(block)])
        kept.append(order[best])
        left = ~over[best].any(0)
        left[: len(block)] = False
        order, boxes = order[left], boxes[left]
    return torch.cat(kept) if kept else order


def _greedy(over: Tensor) -> Tensor:
    """Indices of the rows that no earlier kept row is ``over``, from an (n, n) matrix.

    A row is one integer with a bit for each box: a Python loop of one AND and one OR a box, where
    a loop over tensors takes a hundred times as long.
    """
    packed = np.packbits(over.cpu().numpy(), axis=1, bitorder='little')
    rows = [int.from_bytes(row.tobytes(), 'little') for row in packed]
    suppressed, kept = 0, []
    for index, row in enumerate(rows):
        if not suppressed >> index & 1:
            kept.append(index)
            suppressed |= row
    return torch.tensor(kept, dtype=torch.long, device=over.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Non-maximum suppression that tells which boxes each kept one suppressed.

    Args:
        dets: Boxes with scores, shape (N, 5).
        iou_threshold: A box is dropped if its IoU with a better one reaches this.

    Returns:
        One list of indices for each kept box, best first: itself, then what it suppressed.
    """
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        boxes = dets[order, :4]
        over = _ious(boxes[:1], boxes, 0) >= iou_threshold
        over[0] = True  # also a box without area, whose IoU with itself is NaN
        groups.append(order[over].tolist())
        order = order[~over]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Suppression that lowers scores instead of dropping boxes (arXiv 1704.04503).

    Args:
        boxes: Shape (N, 4), on the CPU.
        scores: Shape (N,).
        dets: Result, shape (N, 5): the first K rows get the boxes that stay, with their new
            scores, best first.
        iou_threshold: From which IoU on scores are lowered, except by the Gaussian.
        sigma: Width of the Gaussian.
        min_score: A box whose lowered score is below this is dropped.
        method: ``NAIVE``: to 0; ``LINEAR``: times ``1 - IoU``; ``GAUSSIAN``: times
            ``exp(-IoU^2 / sigma)``.
        offset: 0 or 1.

    Returns:
        Indices of the K boxes that stay, in the same order.
    """
    scores = scores.clone()
    left = torch.arange(len(boxes))
    kept = []
    while len(left):
        best = int(scores[left].argmax())
        index = left[best]
        dets[len(kept), :4] = boxes[index]
        dets[len(kept), 4] = scores[index]
        kept.append(index)
        left = torch.cat([left[:best], left[best + 1 :]])
        ious = _ious(boxes[index], boxes[left], offset)
        if method == GAUSSIAN:
            weights = torch.exp(-(ious**2) / sigma)
        else:
            weights = 1 - ious if method == LINEAR else torch.zeros_like(ious)
            weights = torch.where(ious >= iou_threshold, weights, 1)
        scores[left] *= weights
        left = left[~(scores[left] < min_score)]
    return torch.stack(kept) if kept else left
