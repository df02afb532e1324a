"""One self-contained page: nothing is fetched from anywhere, so it can be sent on."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .columns import Column, cell, shown_columns
from .table import best_rows
from .verdicts import verdicts

_FOLDER = Path(__file__).resolve().parent
_TITLES = dict(
    ap_latency='AP and latency',
    latency='Where the time goes',
    costs='Latency and operations',
    precision_recall='Precision and recall',
    per_class='Classes',
    learning_curves='Learning curves',
)


class Gallery(NamedTuple):
    """Pictures below a heading: rows of a title and of captions with pictures."""

    title: str
    rows: list[tuple[str, list[tuple[str, str]]]]


def make_page(
    report: Mapping,
    columns: Sequence[Column],
    plots: Mapping[str, str],
    galleries: Sequence[Gallery] = (),
) -> str:
    """The page.

    Args:
        report: Content of ``compare.json``.
        columns: Of the table.
        plots: SVG texts by name.
        galleries: Pictures as data URIs.

    Returns:
        HTML with its styles, script, plots and pictures.
    """
    rows = report['rows']
    failed = [row for row in rows if row['status'] == 'failed']
    num_images = len(rows) - len(failed)
    head = f'{len(rows)} detectors' + (f', {len(failed)} of them failed' if failed else '')
    body = [
        '<header><h1>Comparison of detectors</h1>',
        f'<p class="sub">{_text(head)} · {_text(report["created"])} · '
        f'{_text(report["hardware"]["processor"])}, {report["hardware"]["threads"]} threads, '
        f'{_text(report["hardware"]["device"])}</p>',
        f'<pre class="command">{_text(report["command"])}</pre></header>',
        '<main>',
    ]
    body += _section('Table', [_table(columns, rows), _failures(rows)])
    if num_images:
        figures = [
            f'<figure id="plot-{name}"><h3>{_text(_TITLES.get(name, name))}</h3>'
            f'{inline_svg(svg, name)}</figure>'
            for name, svg in plots.items()
        ]
        body += _section('Plots', [f'<div class="plots">{"".join(figures)}</div>'])
    if report['differences']:
        body += _section('Differences of AP', [_differences(report)])
    for gallery in galleries:
        body += _section(gallery.title, [_gallery(gallery)])
    body += _section('How it was measured', [_list(report['notes'])])
    body += _section('Machine and software', [_facts(report['hardware'], report['software'])])
    body += _section('Columns', [_facts({c.title or c.key: c.meaning for c in columns})], True)
    body.append('</main>')
    # The policy makes sure of what is said above, whatever a file name or a class is called.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Comparison of detectors</title><link rel="icon" href="data:,">'
        f'<style>{(_FOLDER / "page.css").read_text(encoding="utf-8")}</style></head>\n<body>'
        + '\n'.join(body)
        + f'<script>{(_FOLDER / "page.js").read_text(encoding="utf-8")}</script></body></html>\n'
    )


def inline_svg(svg: str, name: str) -> str:
    """A plot's SVG as a part of a page, where names have to be unique.

    Args:
        svg: A whole SVG file of matplotlib.
        name: Of the plot, letters and underscores.
    """
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r'url\(#([^)]+)\)', rf'url(#{name}-\1)', svg)
    # The page decides the size.
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', svg, count=1).replace(
        '<svg', f'<svg role="img" aria-label="{name}"', 1
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(title: str, parts: Sequence[str], folded: bool = False) -> list[str]:
    content = ''.join(parts)
    if folded:
        return [f'<section><details><summary>{_text(title)}</summary>{content}</details></section>']
    return [f'<section><h2>{_text(title)}</h2>{content}</section>']


def _table(columns: Sequence[Column], rows: Sequence[dict]) -> str:
    shown = shown_columns(list(columns), list(rows))
    best = [best_rows(column, rows) for column in shown]
    head = ''.join(
        f'<th scope="col" data-key="{_text(c.key)}" title="{_text(c.meaning)}" tabindex="0"'
        f' aria-sort="none"{"" if c.show is str else " class=number"}>{_text(c.title)}</th>'
        for c in shown
    )
    lines = []
    for i, row in enumerate(rows):
        cells = []
        for j, column in enumerate(shown):
            value = row.get(column.key)
            kind = [] if column.show is str else ['number']
            kind += ['best'] if i in best[j] else []
            hint = f' title="{_text(row["item"])}"' if column.key == 'name' else ''
            cells.append(
                f'<td data-value="{"" if value is None else _text(value)}"'
                f' class="{" ".join(kind)}"{hint}>{_text(cell(column, row))}</td>'
            )
        lines.append(f'<tr class="{_text(row["status"])}">{"".join(cells)}</tr>')
    return (
        '<p class="hint">Click a heading to sort; hold the pointer over it for what it means.</p>'
        f'<div class="wide"><table id="results"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def _failures(rows: Sequence[dict]) -> str:
    reasons = {}
    for row in rows:
        if row.get('reason'):
            reasons.setdefault(row['reason'], []).append(row['name'])
    if not reasons:
        return ''
    items = [f'<b>{_text(", ".join(names))}</b>: {_text(why)}' for why, names in reasons.items()]
    return '<ul class="reasons">' + ''.join(f'<li>{item}</li>' for item in items) + '</ul>'


def _differences(report: Mapping) -> str:
    lines = []
    ordered = sorted(report['differences'], key=lambda entry: -abs(entry['difference']))
    for entry in ordered:
        flip = entry['difference'] < 0
        a, b = (entry['b'], entry['a']) if flip else (entry['a'], entry['b'])
        sign = -1 if flip else 1
        low, high = sorted((sign * entry['low'], sign * entry['high']))
        verdict = 'different' if entry['distinguishable'] else 'cannot be told apart'
        lines.append(
            f'<tr class="{"apart" if entry["distinguishable"] else "same"}"><td>{_text(a)}</td>'
            f'<td>{_text(b)}</td><td class="number">{sign * entry["difference"]:+.3f}</td>'
            f'<td class="number">{low:+.3f} to {high:+.3f}</td><td>{verdict}</td></tr>'
        )
    table = (
        '<div class="wide"><table class="plain"><thead><tr><th>detector</th><th>against</th>'
        '<th class=number>AP difference</th><th class=number>95 % interval</th><th>verdict</th>'
        f'</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )
    return _list(verdicts(report)) + f'<details><summary>All pairs</summary>{table}</details>'


def _gallery(gallery: Gallery) -> str:
    parts = []
    for title, pictures in gallery.rows:
        shown = ''.join(
            f'<figure><img src="{uri}" alt="{_text(caption)}" loading="lazy">'
            f'<figcaption>{_text(caption)}</figcaption></figure>'
            for caption, uri in pictures
        )
        parts.append(f'<h3>{_text(title)}</h3><div class="pictures">{shown}</div>')
    return ''.join(parts)


def _list(sentences: Sequence[str]) -> str:
    return '<ul>' + ''.join(f'<li>{_text(sentence)}</li>' for sentence in sentences) + '</ul>'


def _facts(*groups: Mapping) -> str:
    entries = [(k, v) for group in groups for k, v in group.items()]
    lines = ''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in entries)
    return f'<dl class="facts">{lines}</dl>'
