"""Curves of a training run, from the scalars that mmengine's local backend writes."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def read_scalars(work_dir: str | Path) -> list[dict]:
    """Scalars of every run in a work dir, oldest first.

    Args:
        work_dir: Work dir of one or, when resumed, several runs.

    Returns:
        One dict per log line: ``loss``, ``lr``, ``coco/bbox_mAP``, ..., ``step``.

    Raises:
        FileNotFoundError: If no run has written scalars there.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'no */vis_data/scalars.json below {work_dir}.')
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def plot_curves(work_dir: str | Path, out_file: str | Path) -> None:
    """Plots the training loss by iteration, and AP and AP50 by epoch.

    Args:
        work_dir: Work dir of the run.
        out_file: Picture to write.
    """
    scalars = read_scalars(work_dir)
    train = [entry for entry in scalars if 'loss' in entry]
    val = [entry for entry in scalars if 'coco/bbox_mAP' in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')

    steps = [entry['iter'] for entry in train]
    loss = np.array([entry['loss'] for entry in train])
    left.plot(steps, loss, color='tab:blue')
    left.set(xlabel='iteration', ylabel='training loss', title='Loss')

    epochs = [entry['step'] for entry in val]
    for key, label in (('coco/bbox_mAP', 'AP'), ('coco/bbox_mAP_50', 'AP50')):
        right.plot(epochs, [entry[key] for entry in val], marker='o', label=label)
    right.set(xlabel='epoch', ylabel='AP', title='Validation', ylim=(0, 1))
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(out_file, dpi=120)
    plt.close(figure)
