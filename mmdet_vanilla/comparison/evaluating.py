"""AP of all detectors, how certain it is, and which differences mean something."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from .accuracy import Evaluation
from .bootstrap import compare_ap, resample_weights, resampled_ap
from .dataset import Split
from .entry import Entry


def evaluate(
    entries: Sequence[Entry], split: Split, num_resamples: int, seed: int = 0
) -> list[dict]:
    """Evaluates entries whose detections are there: fills ``evaluation`` and ``interval``.

    Args:
        entries: Detectors; those that failed or have random weights are left as they are.
        split: The data.
        num_resamples: Of the bootstrap; with 0 there are no intervals.
        seed: Of the resamples.

    Returns:
        Of every pair: ``a``, ``b``, ``difference`` of their APs, ``low``, ``high``,
        ``distinguishable``.
    """
    evaluated = []
    for entry in entries:
        if entry.state.error is None and entry.item.has_weights and entry.detections_file.exists():
            found = json.loads(entry.detections_file.read_text())
            entry.evaluation = Evaluation(split, found)
            evaluated.append(entry)
    if not num_resamples:
        return []
    weights = resample_weights(len(split.content['images']), num_resamples, seed)
    aps = {}
    for entry in evaluated:
        aps[entry.name] = resampled_ap(entry.evaluation.coco_eval, weights)
        known = aps[entry.name][np.isfinite(aps[entry.name])]
        if len(known):
            low, high = np.percentile(known, [2.5, 97.5])
            entry.interval = (float(low), float(high))
    differences = []
    for a, b in combinations(evaluated, 2):
        ap, other = a.evaluation.stats['AP'], b.evaluation.stats['AP']
        if ap is not None and other is not None:
            interval = compare_ap(ap, other, aps[a.name], aps[b.name])
            differences.append(dict(a=a.name, b=b.name, **interval._asdict()))
    return differences
