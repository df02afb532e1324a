"""Images on which detectors disagree most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from mmengine.structures import InstanceData

from mmdet_vanilla.evaluation import match_detections


def by_image(detections: Sequence[dict], score_thr: float) -> dict[int, InstanceData]:
    """Confident detections by image.

    Args:
        detections: COCO results.
        score_thr: Least score, 0..1.

    Returns:
        By id of the image: ``bboxes`` (x1, y1, x2, y2), ``scores`` and ``labels``, which hold ids
        of categories.
    """
    rows: dict[int, list] = {}
    for found in detections:
        if found['score'] >= score_thr:
            rows.setdefault(found['image_id'], []).append(found)
    results = {}
    for image_id, found in rows.items():
        boxes = torch.tensor([f['bbox'] for f in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        results[image_id] = InstanceData(
            bboxes=boxes,
            scores=torch.tensor([f['score'] for f in found]),
            labels=torch.tensor([f['category_id'] for f in found]),
        )
    return results


def none_found() -> InstanceData:
    """No detection."""
    return InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )


def disagreement(a: InstanceData, b: InstanceData) -> int:
    """Detections that only one of two detectors has, and pairs with different labels."""
    rows, columns = match_detections(a.bboxes, a.labels, b.bboxes, b.labels)
    relabelled = int((a.labels[rows] != b.labels[columns]).sum())
    return len(a) + len(b) - 2 * len(rows) + relabelled


def worst_disagreements(
    detections: Mapping[str, Mapping[int, InstanceData]], image_ids: Sequence[int], most: int = 4
) -> list[tuple[int, int, str, str]]:
    """Ranks images by the largest disagreement of any two detectors.

    Args:
        detections: By name of the detector, what :func:`by_image` returns.
        image_ids: Of all images.
        most: How many to return.

    Returns:
        Id of the image, number of disagreements, and the two names, the largest first. Images on
        which all agree are left out.
    """
    ranked = []
    for image_id in image_ids:
        found = {name: images.get(image_id, none_found()) for name, images in detections.items()}
        pairs = [(disagreement(found[a], found[b]), a, b) for a, b in combinations(found, 2)]
        if pairs:
            number, a, b = max(pairs, key=lambda pair: pair[0])
            ranked.append((image_id, number, a, b))
    ranked.sort(key=lambda entry: (-entry[1], entry[0]))
    return [entry for entry in ranked[:most] if entry[1]]
