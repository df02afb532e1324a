"""Curves of a training run, from the scalars that mmengine's local backend writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def read_scalars(work_dir: str | Path, since: str = '') -> list[dict]:
    """Scalars of the runs in a work dir, in the order of training.

    A run that was resumed writes into a new folder. What an earlier run logged from the resumed
    run's first iteration on was trained anew, and is left out.

    Args:
        work_dir: Work dir of one or, when resumed, several runs.
        since: Name of the first folder to read (they are named by the time); default: all.

    Returns:
        One dict per log line: ``loss``, ``lr``, ``coco/bbox_mAP``, ..., ``step``.

    Raises:
        FileNotFoundError: If no run has written scalars there.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    files = [file for file in files if file.parts[-3] >= since]
    if not files:
        raise FileNotFoundError(
            f'no */vis_data/scalars.json below {work_dir}: add '
            "dict(type='LocalVisBackend') to visualizer.vis_backends."
        )
    scalars = []
    for file in files:
        entries = []
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a run that was killed leaves half a line
            # With LogProcessor(log_with_hierarchy=True) names begin with the mode.
            entries.append(
                {key.removeprefix('train/').removeprefix('val/'): v for key, v in entry.items()}
            )
        first = next((entry['iter'] for entry in entries if 'iter' in entry), None)
        if first is not None:
            trained_anew = (i for i, entry in enumerate(scalars) if entry.get('iter', -1) >= first)
            del scalars[next(trained_anew, len(scalars)) :]
        scalars += entries
    return scalars


def split_scalars(scalars: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Splits log lines into those of training and those of validation.

    Args:
        scalars: Return value of :func:`read_scalars`.

    Returns:
        Lines of training; and of validations, ``step`` (epoch, or iteration in training by
        iteration) and metrics alone.
    """
    train = [entry for entry in scalars if 'iter' in entry]
    val = {
        entry['step']: {k: v for k, v in entry.items() if k not in ('time', 'data_time')}
        for entry in scalars
        if 'iter' not in entry
    }
    return train, [val[step] for step in sorted(val)]


def plot_curves(scalars: Sequence[dict], out_file: str | Path) -> None:
    """Plots the loss, its parts and the learning rate by iteration, and validation by epoch.

    Args:
        scalars: Return value of :func:`read_scalars`.
        out_file: Picture to write.
    """
    train, val = split_scalars(scalars)
    # A figure without pyplot is drawn by Agg, needs no display and is freed by itself.
    figure = Figure(figsize=(12, 8), layout='constrained')
    (loss, metrics), (parts, rate) = figure.subplots(2, 2)

    _plot(loss, train, 'loss')
    loss.set(title='Training loss', xlabel='iteration')

    _plot_metrics(metrics, val)
    metrics.set(
        title='Validation',
        xlabel='epoch' if any('epoch' in entry for entry in train) else 'iteration',
    )

    _plot_parts(parts, train)
    parts.set(title='Losses by name (thin: of earlier layers)', xlabel='iteration', yscale='log')

    _plot(rate, train, 'lr')
    rate.set(title='Learning rate', xlabel='iteration')
    for axes in (loss, metrics, parts, rate):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[['top', 'right']].set_visible(False)
        if not axes.lines:
            axes.text(0.5, 0.5, 'nothing logged', transform=axes.transAxes, ha='center')
    figure.savefig(out_file, dpi=120)


def _names(entries: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry))


def _plot(axes: Axes, train: Sequence[dict], name: str, **style) -> None:
    points = [(entry['iter'], entry[name]) for entry in train if name in entry]
    if points:
        # A single point is invisible without a marker.
        axes.plot(*zip(*points), marker='o' if len(points) == 1 else None, **style)


def _plot_metrics(axes: Axes, val: Sequence[dict]) -> None:
    # COCO's metrics of sizes that do not occur are -1.
    names = [
        name
        for name in _names(val)
        if name != 'step' and all(entry.get(name, 0) >= 0 for entry in val)
    ]
    for i, name in enumerate(names):
        points = [(entry['step'], entry[name]) for entry in val if name in entry]
        label = name.rsplit('/', 1)[-1]
        style = dict(marker='o', linewidth=2.5) if i == 0 else dict(marker='.', linewidth=1)
        last = points[-1][1]
        axes.plot(*zip(*points), label=f'{label} ({last:.3f})', color=f'C{i % 10}', **style)
    if names:
        axes.legend(fontsize='small', title='last value', title_fontsize='small')
        axes.set_ylim(bottom=0)


def _plot_parts(axes: Axes, train: Sequence[dict]) -> None:
    names = [name for name in _names(train) if 'loss' in name and name != 'loss']
    # 'd0.loss_cls' belongs to an earlier decoder layer, 's1.loss_cls' to a stage of a cascade.
    own_names = [name for name in names if '.' not in name]
    groups = list(dict.fromkeys(name.rsplit('.', 1)[-1] for name in names))
    for name in sorted(names, key=lambda name: '.' not in name):
        group = name.rsplit('.', 1)[-1]
        thin = name != group and group in own_names
        style = dict(linewidth=0.6, alpha=0.5) if thin else dict(linewidth=1.6)
        label = '_' + name if thin else name
        color = f'C{groups.index(group) % 10}'
        _plot(axes, train, name, color=color, label=label, **style)
    if names:
        axes.legend(fontsize='x-small', ncols=3)
