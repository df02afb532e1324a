"""Learning curves of several detectors in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def learning_curves_figure(
    curves: Mapping[str, Sequence[Sequence[float]]], unit: str = 'seconds'
) -> Figure:
    """Plots AP and AP50 against what a training has used of its budget.

    Args:
        curves: By name of the detector, (budget used, AP, AP50) at every validation.
        unit: Of the budget: ``'seconds'``, which are plotted as minutes, or ``'iterations'``.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10, 4), layout='constrained')
    FigureCanvasAgg(figure)
    scale, label = (60, 'minutes of training') if unit == 'seconds' else (1, unit)
    for axes, column, title in zip(figure.subplots(1, 2), (1, 2), ('AP', 'AP50')):
        for name, points in curves.items():
            used = [0, *(point[0] / scale for point in points)]
            axes.plot(used, [0, *(point[column] for point in points)], marker='.', label=name)
        axes.set(xlabel=label, ylabel=title, ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize='small')
    return figure
