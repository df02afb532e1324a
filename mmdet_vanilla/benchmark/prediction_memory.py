"""Whether a process that predicts for days keeps its size."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from mmdet_vanilla.utils.host_memory import host_memory


def resident_memory(
    predict: Callable[[Any], object],
    images: Sequence[Any],
    count: int,
    warm_up: float = 0.2,
    points: int = 20,
) -> list[int]:
    """Resident memory while images are predicted over and over.

    Args:
        predict: Takes an image.
        images: Taken in turn.
        count: Number of predictions.
        warm_up: Share of them after which memory is first looked at: allocators fill their pools.
        points: Times that it is looked at, evenly.

    Returns:
        Bytes at every point.

    Raises:
        RuntimeError: Where the system does not tell the memory.
    """
    first = int(count * warm_up)
    marks = {first + round(i * (count - 1 - first) / (points - 1)) for i in range(points)}
    sizes = []
    for i in range(count):
        predict(images[i % len(images)])
        if i in marks:
            gc.collect()
            memory = host_memory()
            if memory is None:
                raise RuntimeError('memory can be measured on Linux only.')
            sizes.append(memory.now)
    return sizes


def drift(sizes: Sequence[int]) -> float:
    """The largest deviation from the middle of the range, as a share of it.

    Args:
        sizes: Of :func:`resident_memory`.

    Returns:
        0.02 for memory that is flat within plus and minus 2 %.
    """
    middle = (max(sizes) + min(sizes)) / 2
    return (max(sizes) - middle) / middle
