"""Contrastive denoising queries (DINO, https://arxiv.org/abs/2203.03605, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class DenoisingQueries(NamedTuple):
    """Noised copies of the objects, in groups of one positive and one negative copy of each.

    Query ``g * 2G + j`` of an image is the positive copy of object j in group g, and
    ``g * 2G + G + j`` the negative one, where G is the largest number of objects in the batch.
    """

    labels: Tensor  # (N, D) noised class, num_classes where an image has fewer than G objects
    boxes: Tensor  # (N, D, 4) noised cx, cy, w, h, 0..1; zeros where there is no object
    attn_mask: Tensor  # (D + Q, D + Q), True where a query must not see another
    positive: Tensor  # (P,) index into the flattened (N * D) queries of every positive copy
    target: Tensor  # (P,) index of its object in the concatenated objects of the batch
    num_groups: int


def pad_targets(
    labels: Sequence[Tensor], boxes: Sequence[Tensor], fill_label: int
) -> tuple[Tensor, Tensor]:
    """Stacks per-image targets: labels (N, G) and boxes (N, G, 4), padded at the end."""
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(list(labels), True, fill_label), pad(list(boxes), True, 0)


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to corners."""
    centre, size = boxes.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners to centre and size."""
    low, high = boxes.split(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def make_denoising_queries(
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    num_classes: int,
    num_queries: int,
    num_denoising: int = 100,
    label_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
) -> DenoisingQueries | None:
    """Makes the denoising queries of a batch.

    There are ``max(1, num_denoising // G)`` groups. A label is replaced by a random class with
    probability ``label_noise_ratio / 2``. Every edge of a box moves by a random share of half the
    box's side: 0..1 times ``box_noise_scale`` for a positive copy, 1..2 times for a negative one.

    Args:
        labels: Of every image, (G_i,).
        boxes: Of every image, (G_i, 4), cx, cy, w, h, 0..1.
        num_classes: Number of classes.
        num_queries: Number of matching queries, which come after the denoising ones.
        num_denoising: Number of positive queries to aim at; 0 for no denoising.
        label_noise_ratio: Twice the probability of another label.
        box_noise_scale: Scale of the box noise; 0 for none.

    Returns:
        The queries, or None where there is nothing to make them from.
    """
    counts = [len(image_labels) for image_labels in labels]
    max_objects = max(counts, default=0)
    if not num_denoising or not max_objects:
        return None
    num_groups = max(1, num_denoising // max_objects)
    group_size = 2 * max_objects
    total = num_groups * group_size

    padded_labels, padded_boxes = pad_targets(labels, boxes, num_classes)
    device = padded_labels.device
    object_of = torch.arange(max_objects, device=device).repeat(2 * num_groups)
    is_negative = torch.arange(total, device=device) % group_size >= max_objects
    exists = object_of < torch.tensor(counts, device=device)[:, None]

    dn_labels = padded_labels[:, object_of]
    swap = torch.rand(dn_labels.shape, device=device) < label_noise_ratio * 0.5
    random_labels = torch.randint_like(dn_labels, num_classes)
    dn_labels = torch.where(swap & exists, random_labels, dn_labels)

    dn_boxes = padded_boxes[:, object_of]
    if box_noise_scale > 0:
        half_size = dn_boxes[..., 2:].repeat(1, 1, 2) * 0.5 * box_noise_scale
        sign = torch.randint_like(half_size, 2) * 2 - 1
        share = torch.rand_like(half_size) + is_negative[:, None]
        corners = box_cxcywh_to_xyxy(dn_boxes) + sign * share * half_size
        dn_boxes = box_xyxy_to_cxcywh(corners.clamp(0, 1))

    # Groups see themselves and the matching queries; matching queries see no group.
    group_of = torch.arange(total, device=device) // group_size
    group_of = torch.cat([group_of, group_of.new_full((num_queries,), -1)])
    attn_mask = (group_of[:, None] != group_of) & (group_of >= 0)

    first = torch.tensor([0, *counts[:-1]], device=device).cumsum(0)
    is_positive = exists & ~is_negative
    # nonzero() would wait for the device; the number of positives is known without asking it.
    flat = torch.arange(is_positive.numel(), device=device)
    order = torch.argsort(~is_positive.flatten(), stable=True)[: sum(counts) * num_groups]
    target = (first[:, None] + object_of).flatten()[order]
    return DenoisingQueries(dn_labels, dn_boxes, attn_mask, flat[order], target, num_groups)
