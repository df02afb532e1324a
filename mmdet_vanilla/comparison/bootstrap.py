"""How far AP, and differences of AP, depend on which images happen to be in the test data.

The bootstrap over images: a resample draws as many images as there are, with replacement, and
counts an image as often as it was drawn. Every detector is measured on the same resamples, so that
what makes an image hard for all of them cancels out of a difference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

_CHUNK_ELEMENTS = 4_000_000


class Interval(NamedTuple):
    """A difference of AP and its 95 % interval.

    Attributes:
        difference: On the whole data, 0..1.
        low, high: The 2.5th and 97.5th percentile over resamples.
        distinguishable: Whether the interval leaves 0 out.
    """

    difference: float
    low: float
    high: float
    distinguishable: bool


def resample_weights(num_images: int, num_resamples: int, seed: int = 0) -> np.ndarray:
    """How often every image was drawn.

    Args:
        num_images: Number of images.
        num_resamples: Number of resamples.
        seed: Of the draws.

    Returns:
        (num_resamples, num_images), rows that sum to ``num_images``.
    """
    rng = np.random.default_rng(seed)
    shares = np.full(num_images, 1 / num_images)
    return rng.multinomial(num_images, shares, size=num_resamples).astype(np.float64)


def resampled_ap(coco_eval: COCOeval, weights: np.ndarray) -> np.ndarray:
    """COCO's AP of every resample, from the matches that pycocotools has found.

    What is matched in an image does not depend on other images, so only the accumulation is done
    anew: for all resamples at once, and only at true positives, where precision has its maxima.

    Args:
        coco_eval: After ``evaluate``, with all areas and detections that AP counts.
        weights: (R, I), how often every image counts, in the order of ``params.imgIds``.

    Returns:
        (R,) AP, 0..1; NaN where no object was drawn.
    """
    params = coco_eval.params
    num_images, num_thresholds = len(params.imgIds), len(params.iouThrs)
    total = np.zeros(len(weights))
    num_classes = np.zeros(len(weights))
    for k in range(len(params.catIds)):
        begin = k * len(params.areaRng) * num_images
        entries = coco_eval.evalImgs[begin : begin + num_images]  # of all areas together
        matches = _matches(entries, params.maxDets[-1])
        if matches is None:
            continue
        scores, images, matched, ignored, positives = matches
        objects = weights @ positives  # (R,)
        occurs = objects > 0
        num_classes += occurs
        size = max(1, _CHUNK_ELEMENTS // max(len(scores), 1))
        for start in range(0, len(weights), size):
            chunk = slice(start, start + size)
            drawn = weights[chunk][:, images]
            ap = np.zeros(len(drawn))
            for t in range(num_thresholds):
                ap += _ap(drawn, matched[t], ignored[t], objects[chunk], params.recThrs)
            total[chunk] += np.where(occurs[chunk], ap / num_thresholds, 0.0)
    with np.errstate(invalid='ignore', divide='ignore'):
        return total / num_classes


def _matches(entries: list, most: int) -> tuple | None:
    """Detections of one class over all images, best first."""
    positives = np.zeros(len(entries))
    parts = []
    for i, entry in enumerate(entries):
        if entry is None:
            continue
        positives[i] = np.count_nonzero(np.asarray(entry['gtIgnore']) == 0)
        scores = np.asarray(entry['dtScores'][:most], dtype=np.float64)
        matched = np.asarray(entry['dtMatches'])[:, :most] != 0
        ignored = np.asarray(entry['dtIgnore'])[:, :most] != 0
        parts.append((scores, np.full(len(scores), i), matched, ignored))
    if not positives.any():
        return None
    scores, images, matched, ignored = zip(*parts)
    scores = np.concatenate(scores)
    order = np.argsort(-scores, kind='mergesort')  # as pycocotools breaks ties
    return (
        scores[order],
        np.concatenate(images)[order],
        np.concatenate(matched, 1)[:, order],
        np.concatenate(ignored, 1)[:, order],
        positives,
    )


def _ap(
    drawn: np.ndarray,
    matched: np.ndarray,
    ignored: np.ndarray,
    objects: np.ndarray,
    recalls: np.ndarray,
) -> np.ndarray:
    """Average precision at one IoU.

    Args:
        drawn: (R, D) how often every detection's image was drawn, detections best first.
        matched: (D,) whether it has an object.
        ignored: (D,) whether it counts as neither right nor wrong.
        objects: (R,) number of objects.
        recalls: (P,) where precision is looked up.

    Returns:
        (R,).
    """
    counted = np.cumsum(drawn * ~ignored if ignored.any() else drawn, axis=1)
    right = matched & ~ignored
    if not right.any():
        return np.zeros(len(drawn))
    true = np.cumsum(drawn[:, right], axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        precision = true / (counted[:, right] + np.spacing(1))
        recall = true / objects[:, None]
    # An image that was not drawn adds nothing: its places repeat those before them.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(recalls, np.nan_to_num(recall).ravel(), side='right')
    reached = reached.reshape(recall.shape)
    reached = np.where(true > 0, reached, 0)
    new = np.diff(reached, axis=1, prepend=0)
    return (new * precision).sum(1) / len(recalls)


def compare_ap(ap: float, other: float, aps: np.ndarray, others: np.ndarray) -> Interval:
    """The difference of two APs and its interval.

    Args:
        ap, other: Of two detectors on the whole data.
        aps, others: (R,) of the same resamples, by :func:`resampled_ap`.
    """
    differences = aps - others
    differences = differences[np.isfinite(differences)]
    low, high = np.percentile(differences, [2.5, 97.5]) if len(differences) else (np.nan, np.nan)
    apart = bool(low > 0 or high < 0)
    return Interval(ap - other, float(low), float(high), apart)
