"""Checks of the numbers that random augmentations are built with."""

from __future__ import annotations

from collections.abc import Sequence


def check_range(
    name: str, value: Sequence[float], low: float = 0.0, high: float = float('inf')
) -> tuple[float, float]:
    """Checks the bounds of a uniform distribution.

    Args:
        name: What the message calls it.
        value: The bounds.
        low: The least that the lower bound may be.
        high: The most that the upper bound may be.

    Returns:
        The bounds.

    Raises:
        ValueError: If they are not two numbers in order within ``low`` and ``high``.
    """
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(
            f'{name} is {value!r}, expected two numbers (a, b) with {low:g} <= a <= b <= {high:g}; '
            'set it to such a pair'
        )
    return value[0], value[1]


def check_probability(name: str, value: float) -> float:
    """Checks a probability.

    Args:
        name: What the message calls it.
        value: The probability.

    Returns:
        The probability.

    Raises:
        ValueError: If it is not in 0..1.
    """
    if not 0 <= value <= 1:
        raise ValueError(f'{name} is {value!r}, expected a number from 0 to 1; set it to one')
    return value
