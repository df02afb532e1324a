"""Compares an exported model with the PyTorch model that it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_vanilla.evaluation import match_detections
from mmdet_vanilla.models.layers.deformable_attention import DeformableAttention

from .errors import DeployError
from .runtimes import Detect


class Tolerance(NamedTuple):
    """How far matched detections may lie apart.

    Attributes:
        score: Largest difference of scores.
        box: Largest difference of a coordinate at an input of 640 pixels; in proportion at others.
        least_score: Only detections of the reference with at least this score are compared.
        outliers: Share of those that may have no partner or another label, or lie further apart.
        ap: Largest difference of AP on real data, 0..100.
    """

    score: float
    box: float
    least_score: float = 0.0
    outliers: float = 0.0
    ap: float = 0.05


# float32 is exact to rounding. In lower precision two queries on one object may exchange their
# scores, so that a single detection says little: only the confident ones are compared there, a few
# may differ by more, and AP on real data tells the rest (--data).
TOLERANCES = dict(
    fp32=Tolerance(score=1e-4, box=0.1),
    fp16=Tolerance(score=0.05, box=3.0, least_score=0.3, outliers=0.02, ap=0.3),
    bf16=Tolerance(score=0.1, box=10.0, least_score=0.3, outliers=0.05, ap=0.3),
    int8=Tolerance(score=0.3, box=20.0, least_score=0.4, outliers=0.1, ap=1.5),
)


# Where positions are rounded to cells, rounding in float32 takes a few samples to the next cell.
DISCRETE = Tolerance(score=0.02, box=5.0, outliers=0.01)


def tolerance_of(model: nn.Module, precision: str) -> Tolerance:
    """What may differ between a model and its exported form.

    Args:
        model: The PyTorch model.
        precision: ``'fp32'``, ``'fp16'``, ``'bf16'`` or ``'int8'``.
    """
    attentions = (m for m in model.modules() if isinstance(m, DeformableAttention))
    if precision == 'fp32' and any(m.method == 'discrete' for m in attentions):
        return DISCRETE
    return TOLERANCES[precision]


class Verification(NamedTuple):
    """The result of a comparison over all images."""

    num_images: int
    num_detections: int  # of the reference that were compared
    num_unmatched: int
    num_labels: int  # pairs whose labels differ
    num_outliers: int  # those, and pairs further apart than tolerated
    score: float  # largest difference
    box: float  # largest difference, pixels
    tolerance: Tolerance
    passed: bool


def reference_detections(model: nn.Module, images: Tensor) -> list[InstanceData]:
    """What the PyTorch model detects, boxes in pixels of the input.

    Args:
        model: The detector in evaluation mode.
        images: (N, 3, H, W), normalised.

    Returns:
        ``bboxes``, ``scores`` and ``labels`` of every image.
    """
    size = tuple(images.shape[-2:])
    metas = [dict(img_shape=size, batch_input_shape=size)] * len(images)
    with torch.no_grad():
        outs = model.bbox_head(model.extract_feat(images))
        return model.bbox_head.predict_by_feat(*outs, metas, rescale=False)


def exported_detections(detect: Detect, images: Tensor) -> list[InstanceData]:
    """What an exported model detects, as :func:`reference_detections`.

    Raises:
        DeployError: If its outputs are not what they should be.
    """
    dets, labels = detect(np.ascontiguousarray(images.cpu().numpy()))
    if dets.ndim != 3 or dets.shape[0] != len(images) or dets.shape[-1] != 5:
        raise DeployError(f'dets have shape {dets.shape}, expected ({len(images)}, K, 5).')
    if labels.shape != dets.shape[:2]:
        raise DeployError(f'labels have shape {labels.shape}, expected {dets.shape[:2]}.')
    return [
        InstanceData(
            bboxes=torch.from_numpy(d[:, :4]),
            scores=torch.from_numpy(d[:, 4]),
            labels=torch.from_numpy(lab).long(),
        )
        for d, lab in zip(dets, labels)
    ]


def verify(
    model: nn.Module, detect: Detect, batches: Iterable[Tensor], tolerance: Tolerance
) -> Verification:
    """Compares detections image by image, matched by box.

    A detection without a partner counts unless it is at the end of its list, where the last places
    of a top-k go to either of two equal scores.

    Args:
        model: The PyTorch model.
        detect: The exported model.
        batches: Normalised images (N, 3, H, W).
        tolerance: What may differ.

    Returns:
        The largest differences, and whether they are within the tolerance.
    """
    images = detections = unmatched = labels = outliers = 0
    score = box = 0.0
    for batch in batches:
        limit = tolerance.box * max(1.0, max(batch.shape[-2:]) / 640)
        pairs = zip(reference_detections(model, batch), exported_detections(detect, batch))
        for expected, found in pairs:
            if not found.bboxes.isfinite().all() or not found.scores.isfinite().all():
                raise DeployError('the exported model returns numbers that are not finite.')
            images += 1
            cut_off = float(found.scores.min()) + tolerance.score
            expected = expected[expected.scores >= tolerance.least_score]
            rows, columns = match_detections(
                expected.bboxes, expected.labels, found.bboxes, found.labels
            )
            alone = torch.ones(len(expected), dtype=torch.bool)
            alone[rows] = False
            lost = int((expected.scores[alone] > cut_off).sum())
            unmatched += lost
            outliers += lost
            detections += len(expected)
            if len(rows) == 0:
                continue
            expected, found = expected[rows], found[columns]
            relabelled = expected.labels != found.labels
            by_score = (expected.scores - found.scores).abs()
            by_box = (expected.bboxes - found.bboxes).abs().amax(1)
            labels += int(relabelled.sum())
            far = relabelled | (by_score > tolerance.score) | (by_box > limit)
            outliers += int(far.sum())
            score = max(score, float(by_score.max()))
            box = max(box, float(by_box.max()))
    passed = detections > 0 and outliers <= tolerance.outliers * detections
    return Verification(
        images, detections, unmatched, labels, outliers, score, box, tolerance, passed
    )
