"""Tables: in the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .columns import Column, cell, shown_columns

_SPARE = (
    'latency_p10_ms',
    'AP_small',
    'AP_medium',
    'AP_large',
    'file_bytes',
    'latency_p95_ms',
    'throughput_8',
    'throughput_4',
    'AP75',
    'AR',
    'startup_seconds',
    'preprocess_ms',
    'network_ms',
    'postprocess_ms',
    'throughput_1',
    'form',
    'AP50',
    'peak_memory_bytes',
)


def best_rows(column: Column, rows: Sequence[dict]) -> set[int]:
    """Numbers of the rows with the best value, unless all values are equal."""
    values = [row.get(column.key) for row in rows]
    known = [value for value in values if value is not None]
    if not column.better or len(known) < 2 or min(known) == max(known):
        return set()
    best = (min if column.better == 'low' else max)(known)
    return {i for i, value in enumerate(values) if value is not None and value == best}


def print_table(columns: Sequence[Column], rows: Sequence[dict], console: Console) -> None:
    """Prints the table, wide columns wrapped, the best of every column in bold."""
    shown = shown_columns(list(columns), list(rows))
    # Where a terminal is too narrow for all, what matters least goes first.
    for key in (None, *_SPARE):
        shown = [column for column in shown if column.key != key]
        table = _rich_table(shown, rows)
        if console.measure(table, options=console.options.update(max_width=10_000)).minimum <= (
            console.width
        ):
            break
    console.print(table)


def _rich_table(columns: Sequence[Column], rows: Sequence[dict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    best = [best_rows(column, rows) for column in columns]
    for column in columns:
        right = column.show is not str
        table.add_column(
            column.title,
            justify='right' if right else 'left',
            no_wrap=right or column.key != 'name',
            overflow='fold',
            min_width=16 if column.key == 'name' else None,
        )
    for i, row in enumerate(rows):
        cells = [
            Text(cell(column, row), style='bold' if i in best[j] else '')
            for j, column in enumerate(columns)
        ]
        table.add_row(*cells, style='red' if row['status'] == 'failed' else None)
    return table


def to_csv(columns: Sequence[Column], rows: Sequence[dict]) -> str:
    """All columns by key; numbers unrounded, empty where there is none."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(column.key for column in columns)
    for row in rows:
        values = [row.get(column.key) for column in columns]
        writer.writerow('' if value is None else value for value in values)
    return file.getvalue()


def to_markdown(columns: Sequence[Column], rows: Sequence[dict]) -> str:
    """The table for people, the best of every column in bold."""
    shown = shown_columns(list(columns), list(rows))
    best = [best_rows(column, rows) for column in shown]
    lines = [
        '| ' + ' | '.join(column.title for column in shown) + ' |',
        '|' + '|'.join('---' if c.show is str else '---:' for c in shown) + '|',
    ]
    for i, row in enumerate(rows):
        cells = [cell(column, row).replace('|', '\\|') for column in shown]
        cells = [f'**{text}**' if i in best[j] else text for j, text in enumerate(cells)]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
