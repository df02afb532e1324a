"""Fair timings: interleaved rounds, medians, and the memory of a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping

from .host_memory import host_memory

Run = Callable[[], object]


def time_interleaved(
    functions: Mapping[str, Run], rounds: int = 10, warmup: int = 2
) -> dict[str, list[float]]:
    """Times functions in turn, A B C A B C ..., so that a slow moment hits all alike.

    Args:
        functions: What to time, by name.
        rounds: Timed calls of each.
        warmup: Calls of each before that.

    Returns:
        Seconds of every timed call, by name.
    """
    seconds = {name: [] for name in functions}
    for i in range(warmup + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _measure(connection, build: Callable[[], Run], calls: int) -> None:
    function = build()
    before = _peak_rss()
    for _ in range(calls):
        function()
    connection.send((before, _peak_rss()))
    connection.close()


def _peak_rss() -> int:
    memory = host_memory()
    if memory is not None:
        # Not the maximum of getrusage: on Linux a process begins with that of its parent.
        return memory.peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def peak_memory(build: Callable[[], Run], calls: int = 1) -> tuple[int, int]:
    """Peak resident memory of a fresh process before and after some calls.

    Args:
        build: Importable function that prepares and returns the function to call.
        calls: Calls; a training step has all its memory, with the optimizer's, in the second one.

    Returns:
        Bytes when prepared, and bytes after the calls.
    """
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, build, calls))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f'the measured process ended with status {process.exitcode}.') from None
    finally:
        process.join()


def median(seconds: list[float]) -> float:
    """Median in milliseconds."""
    return statistics.median(seconds) * 1000
