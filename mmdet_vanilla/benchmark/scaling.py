"""How the cost grows with one number at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet_vanilla.utils.timing import median, peak_memory, time_interleaved

from .cases import Case, Inference, TrainingStep
from .surroundings import evaluation_seconds


def fit_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent p of the power law y = a x^p that fits best in logarithms; zeros of x are left out.

    A fixed part of the cost lowers it.
    """
    points = [(a, b) for a, b in zip(x, y) if a > 0]
    logs = np.log(np.array(points, dtype=float))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


@dataclass(frozen=True)
class Axis:
    """One number that is varied.

    Attributes:
        label: What the number is.
        values: It takes.
        case: From the config and a value to what is measured; None for the evaluation.
        work: Exponent of the work: 2 for a side of an image, 1 for a number of things.
        memory: Whether memory is measured as well.
    """

    label: str
    values: tuple[int, ...]
    case: Callable[[str, int], Case] | None
    work: float = 1
    memory: bool = False


def _options(**values: object) -> tuple[tuple[str, object], ...]:
    return tuple((f'model.bbox_head.{name}', value) for name, value in values.items())


AXES: Mapping[str, Axis] = {
    'side': Axis(
        'side of the image',
        (320, 480, 640, 960, 1280),
        lambda config, n: Inference(config, size=n),
        work=2,
        memory=True,
    ),
    'batch': Axis(
        'images at once',
        (1, 2, 4, 8, 16),
        lambda config, n: Inference(config, batch=n, size=320),
        memory=True,
    ),
    'objects': Axis(
        'objects of an image, in training at 320x320',
        (0, 1, 10, 30, 100, 200, 300),
        lambda config, n: TrainingStep(config, objects=n, size=320),
        memory=True,
    ),
    'classes': Axis(
        'classes',
        (1, 20, 80, 365, 1200),
        lambda config, n: Inference(config, size=320, options=_options(num_classes=n)),
    ),
    'classes-training': Axis(
        'classes, in training at 320x320',
        (1, 20, 80, 365, 1200),
        lambda config, n: TrainingStep(config, size=320, options=_options(num_classes=n)),
        memory=True,
    ),
    'layers': Axis(
        'decoder layers',
        (1, 2, 3, 4, 6),
        lambda config, n: Inference(config, size=320, options=_options(num_decoder_layers=n)),
    ),
    'evaluation': Axis('images evaluated', (125, 250, 500, 1000, 2000), None),
}


def sweep(name: str, config: str, rounds: int = 5, values: Sequence[int] = ()) -> dict:
    """Measures one axis.

    Args:
        name: In :data:`AXES`.
        config: Path of the config of a detector.
        rounds: Timed calls of each value.
        values: Instead of those of the axis.

    Returns:
        ``x``, median ``ms``, where measured ``mb`` (peak resident memory above the start), and
        fitted exponents ``ms_exponent`` and ``mb_exponent``.
    """
    axis = AXES[name]
    x = list(values or axis.values)
    result = dict(x=x)
    if axis.case is None:
        evaluation_seconds(x[0])
        result['ms'] = [evaluation_seconds(n) * 1e3 for n in x]
    else:
        cases = {str(n): axis.case(config, n) for n in x}
        functions = {key: case.build_alone() for key, case in cases.items()}
        seconds = time_interleaved(functions, rounds, warmup=1)
        result['ms'] = [median(values) for values in seconds.values()]
    result['ms_exponent'] = fit_exponent(x, result['ms'])
    if axis.memory:
        calls = 2 if isinstance(cases[str(x[0])], TrainingStep) else 1
        peaks = [peak_memory(case.build_alone, calls) for case in cases.values()]
        result['mb'] = [(after - before) / 2**20 for before, after in peaks]
        result['mb_exponent'] = fit_exponent(x, result['mb'])
    return result


def plot(results: Mapping[str, dict], path: str | Path) -> None:
    """Draws time and memory against each number, logarithmic, with the fitted exponents.

    Args:
        results: By axis, of :func:`sweep`.
        path: Picture to write; its ending tells the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(3.6 * columns, 3 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, (name, result) in zip(panels, results.items()):
        for key, unit in (('ms', 'ms'), ('mb', 'MB')):
            if key in result:
                label = f'{unit}, exponent {result[f"{key}_exponent"]:.2f}'
                panel.plot(result['x'], result[key], marker='o', label=label)
        panel.set(xscale='symlog', yscale='log', xlabel=AXES[name].label)
        panel.grid(alpha=0.3, which='both')
        panel.legend(fontsize='x-small')
    for panel in panels[len(results) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=90)
