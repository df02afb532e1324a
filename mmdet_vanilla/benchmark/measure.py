"""Measures cases side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmdet_vanilla.utils.timing import peak_memory, time_interleaved

from .cases import Case, Inference, TrainingStep
from .report import Result


def measure(
    cases: Mapping[str, Case],
    rounds: int = 10,
    warmup: int = 2,
    memory: bool = False,
) -> list[Result]:
    """Times cases in interleaved rounds.

    Args:
        cases: By name.
        rounds: Timed calls of each.
        warmup: Calls of each before that.
        memory: Whether to measure peak memory as well, each case in a process of its own.

    Returns:
        One result per case.
    """
    results = {name: Result(name) for name in cases}
    if memory:
        for name, case in cases.items():
            calls = 2 if isinstance(case, TrainingStep) else 1
            results[name].memory = peak_memory(case.build_alone, calls)
    functions = {name: case.build() for name, case in cases.items()}
    for name, seconds in time_interleaved(functions, rounds, warmup).items():
        results[name].seconds = seconds
    return list(results.values())


def count_gflop(case: Inference) -> float:
    """Floating-point operations of the fused form, two per multiply-add, in GFLOP."""
    from mmdet_vanilla.models import switch_to_deploy

    network = case.network()
    switch_to_deploy(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(case.images())
    return counter.get_total_flops() / 1e9
