"""Latency in interleaved rounds, split into preprocessing, network and postprocessing."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import NamedTuple

import numpy as np

from .detectors import Detector


class Timing(NamedTuple):
    """Seconds of one batch.

    Attributes:
        pre: Resizing, normalising, padding; decoding where it is timed.
        network: Backbone, neck, heads, as far as ``post`` can be told from it.
        post: Decoding of boxes, top-k, NMS, scaling back; ``None`` where it is part of ``network``.
        total: All of it.
    """

    pre: float
    network: float
    post: float | None
    total: float


class Summary(NamedTuple):
    """Milliseconds over the rounds."""

    median: float
    p10: float
    p95: float
    pre: float
    network: float
    post: float | None


def time_batch(detector: Detector, paths: Sequence[str], loaded: Sequence[dict] | None) -> Timing:
    """Times one batch from images to detections.

    Args:
        detector: The detector.
        paths: Image files.
        loaded: The same, decoded before; ``None`` if decoding is to be timed.
    """
    if loaded is not None:
        loaded = [copy.copy(image) for image in loaded]
    detector.synchronize()
    start = time.perf_counter()
    if loaded is None:
        loaded = [detector.load(path) for path in paths]
    data = detector.preprocess(loaded)
    detector.synchronize()
    prepared = time.perf_counter()
    detector.predict(data)
    detector.synchronize()
    end = time.perf_counter()
    post = detector.post_seconds
    return Timing(prepared - start, end - prepared - (post or 0.0), post, end - start)


def time_rounds(
    detectors: Mapping[str, Detector],
    timings: Mapping[str, MutableMapping[int, list[Timing]]],
    images: Sequence[str],
    batch_size: int,
    rounds: int,
    warmup: int,
    time_decoding: bool = False,
    on_round: Callable[[str, Exception | None], None] = lambda name, error: None,
) -> None:
    """Times detectors in rounds, each once in every round, so that a slow moment hits all alike.

    The order is drawn anew for every round: who always came after a large model would always find
    its own data out of the caches.

    Args:
        detectors: By name.
        timings: By name and batch size, what earlier calls have measured; extended in place.
        images: Files that can be read; every round takes the next ones, the same for all.
        batch_size: Images at a time.
        rounds: Of all, those that are there included.
        warmup: Calls of each before the first one that counts.
        time_decoding: Whether reading and decoding the files counts.
        on_round: Called after every timed call, with the error where one failed; it gets no
            further calls then.
    """

    def done(name: str) -> int:
        return len(timings[name].setdefault(batch_size, []))

    active = [name for name in detectors if done(name) < rounds]
    decoded = {name: {} for name in active}

    def run(name: str, index: int) -> Timing:
        paths = [images[(index * batch_size + i) % len(images)] for i in range(batch_size)]
        loaded = None
        if not time_decoding:
            for path in paths:
                if path not in decoded[name]:
                    decoded[name][path] = detectors[name].load(path)
            loaded = [decoded[name][path] for path in paths]
        return time_batch(detectors[name], paths, loaded)

    for index in range(-warmup, rounds):
        for name in random.Random(index).sample(active, len(active)):
            if 0 <= index < done(name):
                continue
            try:
                timing = run(name, max(index, 0))
            except Exception as error:  # whatever it is, the others go on
                active.remove(name)
                on_round(name, error)
                continue
            if index >= 0:
                timings[name][batch_size].append(timing)
                on_round(name, None)


def summarize(timings: Sequence[Timing]) -> Summary:
    """Median, 10th and 95th percentile, and medians of the parts."""
    total = np.array([t.total for t in timings]) * 1e3
    pre, network = (
        1e3 * float(np.median([getattr(t, k) for t in timings])) for k in Timing._fields[:2]
    )
    posts = [t.post for t in timings if t.post is not None]
    post = 1e3 * float(np.median(posts)) if posts else None
    p10, median, p95 = (float(v) for v in np.percentile(total, [10, 50, 95]))
    return Summary(median, p10, p95, pre, network, post)
