"""Learning curves of several detectors in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_learning_curves(
    curves: Mapping[str, Sequence[Sequence[float]]], out_file: str | Path
) -> None:
    """Plots AP and AP50 against the time of training.

    Args:
        curves: By name of the detector, (seconds, AP, AP50) at every validation.
        out_file: Picture to write; its ending tells the format.
    """
    figure = Figure(figsize=(10, 4), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, column, title in zip(figure.subplots(1, 2), (1, 2), ('AP', 'AP50')):
        for name, points in curves.items():
            minutes = [0, *(point[0] / 60 for point in points)]
            axes.plot(minutes, [0, *(point[column] for point in points)], marker='.', label=name)
        axes.set(xlabel='minutes of training', ylabel=title, ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize='small')
    figure.savefig(out_file, dpi=120)
