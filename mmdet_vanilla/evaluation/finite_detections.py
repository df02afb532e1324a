"""Keeps detections that are not numbers out of AP.

pycocotools takes an IoU of NaN for a match: a model of which every weight is NaN reaches an AP of
0.37. What mmdet's ``CocoMetric``, the comparison of detectors and the check of an export evaluate
goes through pycocotools' ``COCO.loadRes``, so that is where such detections are dropped.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from pycocotools.coco import COCO


def drop_not_finite(detections: Sequence[Mapping]) -> list[Mapping]:
    """The detections of which box and score are finite numbers; one warning counts the others.

    Args:
        detections: COCO results: dicts with ``image_id``, ``score`` and, of boxes, ``bbox``.
    """
    kept, dropped = [], []
    for found in detections:
        (kept if _is_finite(found) else dropped).append(found)
    if dropped:
        ids = Counter(found['image_id'] for found in dropped)
        images = ', '.join(f'{image} ({number})' for image, number in ids.most_common(6))
        more = f' and {len(ids) - 6} more images' if len(ids) > 6 else ''
        print_log(
            f'{len(dropped)} of {len(detections)} detections are NaN or infinite '
            f'and do not count, in images of id {images}{more}: the model is broken, or its '
            'precision is too low.',
            logger='current',
            level=logging.WARNING,
        )
    return kept


def _is_finite(detection: Mapping) -> bool:
    return all(map(math.isfinite, (detection.get('score', 0.0), *detection.get('bbox', ()))))


def _load_results(load: Any) -> Any:
    @functools.wraps(load)
    def load_finite(self: COCO, results: Any) -> COCO:
        if isinstance(results, str):
            with open(results) as file:
                results = json.load(file)
        if isinstance(results, np.ndarray):
            results = self.loadNumpyAnnotations(results)
        finite = drop_not_finite(results)
        if finite or not results:
            return load(self, finite)
        nothing = type(self)()  # of an empty list loadRes makes an error
        nothing.dataset = dict(self.dataset, annotations=[])
        nothing.createIndex()
        return nothing

    return load_finite


if not hasattr(COCO.loadRes, '__wrapped__'):
    COCO.loadRes = _load_results(COCO.loadRes)
