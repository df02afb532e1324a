"""Random numbers that follow from where a training is, and not from how it got there."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(*entropy: int, devices: bool = True) -> None:
    """Seeds Python's, numpy's and torch's random numbers.

    Args:
        entropy: Integers >= 0 which together name the place, for example a seed and an iteration.
            Trailing zeros do not count.
        devices: Whether to seed those of accelerators too; a process that only loads data has none.
    """
    words = np.random.SeedSequence(entropy).generate_state(6)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:4])
    seed = int.from_bytes(words[4:6].tobytes(), 'little') >> 1
    (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)
