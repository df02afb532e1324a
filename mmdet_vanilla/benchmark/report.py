"""Results as a Markdown table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmdet_vanilla.utils.timing import median

from .machine import Machine


@dataclass
class Result:
    """What was measured of one case.

    Attributes:
        name: Of the case.
        seconds: Of every timed call.
        memory: Peak resident bytes of a process of its own, when prepared and after the calls.
        gflop: Floating-point operations of a call, where they are known.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    memory: tuple[int, int] | None = None
    gflop: float | None = None

    @property
    def milliseconds(self) -> float:
        """Median of a call."""
        return median(self.seconds)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def results_table(results: Sequence[Result], machine: Machine, base: str | None = None) -> str:
    """A table of times, ratios, shares of the machine's limits, and memory.

    Args:
        results: Of the cases.
        machine: Its limits.
        base: Name of the case whose time and memory the ratios refer to; by default the first one.

    Returns:
        The table; columns that hold nothing are left out.
    """
    reference = next((r for r in results if r.name == base), results[0])
    header = ['case', 'median ms', f'of {reference.name}']
    with_gflop = any(r.gflop for r in results)
    with_memory = any(r.memory for r in results)
    if with_gflop:
        header += ['GFLOP/s', 'of mm', 'of conv']
    if with_memory:
        header += ['peak MB', f'of {reference.name}', 'above the start MB']
    rows = []
    for result in results:
        row = [result.name, f'{result.milliseconds:.1f}']
        row.append(f'{result.milliseconds / reference.milliseconds:.3f}')
        if with_gflop:
            rate = (result.gflop or 0) / result.milliseconds * 1e3
            shares = [rate / machine.mm, rate / machine.conv]
            row += [f'{rate:.0f}', *(f'{share:.2f}' for share in shares)] if rate else [''] * 3
        if with_memory:
            before, after = result.memory
            row += [
                f'{after / 2**20:.0f}',
                f'{after / reference.memory[1]:.3f}',
                f'{(after - before) / 2**20:.0f}',
            ]
        rows.append(row)
    return markdown(header, rows)


def write_json(
    path: str | Path, machine: Machine, results: Mapping[str, object] | Sequence[Result]
) -> None:
    """Writes the machine and the results.

    Args:
        path: The file.
        machine: Its limits.
        results: Of the cases, or anything that JSON can hold.
    """
    if not isinstance(results, Mapping):
        results = {result.name: asdict(result) for result in results}
    content = dict(machine=machine.to_dict(), results=results)
    Path(path).write_text(json.dumps(content, indent=2) + '\n')
