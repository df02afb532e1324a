"""Plots of a comparison, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .labels import label_points

_STYLE = {
    'font.family': 'DejaVu Sans',
    'font.size': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#888888',
    'axes.titleweight': 'bold',
    'axes.titlesize': 10,
    'grid.color': '#e3e6ea',
    'svg.fonttype': 'none',  # text stays text: small, and can be searched
}
_PARTS = (
    ('preprocess_ms', 'preprocessing', '#9fb3c8'),
    ('network_ms', 'network', '#2f6db3'),
    ('postprocess_ms', 'postprocessing', '#e08e45'),
)
_MOST_CLASSES = 20


def colors(names: Sequence[str]) -> dict[str, tuple]:
    """A colour for every detector, the same in all plots."""
    table = matplotlib.colormaps['tab10' if len(names) <= 10 else 'tab20'].colors
    return {name: table[i % len(table)] for i, name in enumerate(names)}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Points that no other one beats in both coordinates.

    Args:
        points: (cost, gain): less cost and more gain are better.

    Returns:
        Their numbers, the cheapest first.
    """
    front, best = [], -np.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def plot_ap_latency(rows: Sequence[dict]) -> Figure | None:
    """AP against latency, parameters as area, with the Pareto front."""
    rows = [row for row in rows if row.get('AP') is not None and row.get('latency_ms')]
    if not rows:
        return None
    figure, axes = _figure(8.2, 5)
    _bubbles(axes, rows, 'latency_ms', 'AP')
    low = [row['AP'] - row.get('AP_low', row['AP']) for row in rows]
    high = [row.get('AP_high', row['AP']) - row['AP'] for row in rows]
    axes.errorbar(
        [row['latency_ms'] for row in rows],
        [row['AP'] for row in rows],
        yerr=np.clip([low, high], 0, None),
        fmt='none',
        ecolor='#666666',
        elinewidth=0.8,
        capsize=2,
    )
    points = [(row['latency_ms'], row['AP']) for row in rows]
    front = [points[i] for i in pareto_front(points)]
    axes.step(*zip(*front), where='post', color='#444444', linestyle='--', linewidth=1, zorder=0)
    axes.set(
        title='AP and latency (area: parameters, dashed: Pareto front, bars: 95 % interval)',
        xlabel='latency of one image, ms (median)',
        ylabel='AP',
    )
    _label_bubbles(axes, rows, 'latency_ms', 'AP')
    return figure


def plot_costs(rows: Sequence[dict]) -> Figure | None:
    """Latency against operations, parameters as area: what can be said without weights."""
    rows = [row for row in rows if row.get('macs') and row.get('latency_ms')]
    if not rows:
        return None
    figure, axes = _figure(8.2, 5)
    _bubbles(axes, rows, 'macs', 'latency_ms', 1e-9)
    axes.set(
        title='Latency and operations (area: parameters)',
        xlabel='GMACs at the input size',
        ylabel='latency of one image, ms (median)',
    )
    _label_bubbles(axes, rows, 'macs', 'latency_ms', 1e-9)
    return figure


def plot_latency(rows: Sequence[dict]) -> Figure | None:
    """Bars of preprocessing, network and postprocessing, with the 10th to 95th percentile."""
    rows = [row for row in rows if row.get('latency_ms')]
    if not rows:
        return None
    figure, axes = _figure(8.2, 1.3 + 0.32 * len(rows))
    rows = sorted(rows, key=lambda row: -row['latency_ms'])
    left = np.zeros(len(rows))
    for key, label, color in _PARTS:
        widths = np.array([row.get(key) or 0.0 for row in rows])
        axes.barh(range(len(rows)), widths, left=left, color=color, label=label, height=0.66)
        left += widths
    for i, row in enumerate(rows):
        axes.plot(
            [row['latency_p10_ms'], row['latency_p95_ms']], [i, i], color='#222222', linewidth=1.2
        )
        right = max(left[i], row['latency_p95_ms'])
        axes.annotate(
            f'{row["latency_ms"]:.4g}',
            (right, i),
            (4, 0),
            textcoords='offset points',
            va='center',
            fontsize=8,
        )
    axes.set_yticks(range(len(rows)), [row['name'] for row in rows])
    axes.set(
        title='Latency of one image (medians; line: 10th to 95th percentile)',
        xlabel='ms',
        ylim=(-0.6, len(rows) - 0.4),
    )
    axes.margins(x=0.1)
    axes.legend(loc='upper right', frameon=True, edgecolor='none')
    return figure


def plot_precision_recall(curves: Mapping[str, Sequence[float]]) -> Figure | None:
    """Precision against recall at IoU 0.5, the mean over classes."""
    curves = {name: values for name, values in curves.items() if values}
    if not curves:
        return None
    figure, axes = _figure(8.2, 5)
    color = colors(list(curves))
    for name, values in curves.items():
        axes.plot(
            np.linspace(0, 1, len(values)),
            values,
            color=color[name],
            label=f'{name} (AP50 {np.mean(values):.3f})',
            linewidth=1.6,
        )
    axes.set(
        title='Precision and recall at IoU 0.5, mean over classes',
        xlabel='recall',
        ylabel='precision',
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(frameon=False, loc='lower left')
    return figure


def plot_per_class(rows: Sequence[dict], classes: Sequence[str]) -> Figure | None:
    """AP of every class; of many classes, those on which the detectors differ most."""
    rows = [row for row in rows if row.get('AP') is not None]
    values = {name: [row.get(f'AP:{name}') for row in rows] for name in classes}
    values = {k: v for k, v in values.items() if any(x is not None for x in v)}
    if not rows or not values:
        return None
    title = 'AP of every class'
    if len(values) > _MOST_CLASSES:
        title = f'AP of the {_MOST_CLASSES} classes (of {len(values)}) that differ most'
        spread = {k: np.ptp([x or 0.0 for x in v]) for k, v in values.items()}
        kept = sorted(values, key=lambda name: -spread[name])[:_MOST_CLASSES]
        values = {name: values[name] for name in values if name in kept}
    figure, axes = _figure(8.2, 1.4 + len(values) * (0.25 + 0.13 * len(rows)))
    color = colors([row['name'] for row in rows])
    height = 0.8 / len(rows)
    for i, row in enumerate(rows):
        places = [k + (i - (len(rows) - 1) / 2) * height for k in range(len(values))]
        lengths = [v[i] or 0.0 for v in values.values()]
        axes.barh(places, lengths, height * 0.92, color=color[row['name']], label=row['name'])
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set(title=title, xlabel='AP', xlim=(0, 1))
    axes.legend(frameon=False, loc='center left', bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def plot_curves(curves: Mapping[str, Sequence[Sequence[float]]], unit: str) -> Figure | None:
    """Learning curves: AP of the validation data against the used budget.

    Args:
        curves: By name, (budget used, AP, AP50).
        unit: Of the budget: ``'iterations'`` or ``'seconds'``.
    """
    from mmdet_vanilla.visualization import learning_curves_figure

    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    with matplotlib.rc_context(_STYLE):
        return learning_curves_figure(curves, unit)


def save_plots(figures: Mapping[str, Figure | None], folder: Path) -> dict[str, str]:
    """Writes figures as PNG and SVG.

    Args:
        figures: By name of the file; ``None`` is left out, and removed if it is there.
        folder: Where.

    Returns:
        By name, the SVG's text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for name, figure in figures.items():
        png, svg = folder / f'{name}.png', folder / f'{name}.svg'
        if figure is None:
            png.unlink(missing_ok=True)
            svg.unlink(missing_ok=True)
            continue
        # Names within the file depend on the salt, and the same results give the same file.
        with matplotlib.rc_context({**_STYLE, 'svg.hashsalt': name}):
            figure.savefig(png, dpi=130)
            figure.savefig(svg, metadata=dict(Date=None))
        texts[name] = svg.read_text(encoding='utf-8')
    return texts


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout='constrained')
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.grid(alpha=1, zorder=-1, which='both')
        axes.set_axisbelow(True)
    return figure, axes


def _bubbles(axes: Axes, rows: Sequence[dict], x: str, y: str, scale: float = 1.0) -> None:
    color = colors([row['name'] for row in rows])
    axes.margins(0.12, 0.14)
    # Real-time detectors beside large ones would all lie in one corner.
    for values, set_scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        found = [row[values] for row in rows]
        if values != 'AP' and max(found) > 8 * min(found):
            set_scale('log')
    for row, area in zip(rows, _areas(rows)):
        place = (row[x] * scale, row[y])
        axes.scatter(*place, s=area, color=color[row['name']], alpha=0.75, linewidth=0)


def _areas(rows: Sequence[dict]) -> list[float]:
    largest = max((row.get('parameters') or 0) for row in rows) or 1
    return [40 + 560 * (row.get('parameters') or 0) / largest for row in rows]


def _label_bubbles(axes: Axes, rows: Sequence[dict], x: str, y: str, scale: float = 1.0) -> None:
    places = [(row[x] * scale, row[y]) for row in rows]
    radii = [area**0.5 / 2 for area in _areas(rows)]
    label_points(axes, [row['name'] for row in rows], places, radii)
