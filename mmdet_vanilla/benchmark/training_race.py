"""Trains detectors from scratch for the same time, and compares what they have learnt."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.preflight import check_data_files, load_config
from mmdet_vanilla.utils.rescale_schedule import rescale_schedule
from mmdet_vanilla.visualization import read_scalars

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / '.mim' / 'tools'
TOOLS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / 'tools'


# Two measurements of a training step agree, and the machine is taken as idle, within this share.
AGREEMENT = 0.1


class RaceError(UserError, ValueError):
    """A race that cannot be run, or not be continued."""


@dataclass(frozen=True)
class Entrant:
    """One detector in a race.

    Attributes:
        name: What it is called in tables and curves; also a folder's name.
        config: Path of its config, which trains by epochs.
        options: Overrides of the config, dotted keys to values.
    """

    name: str
    config: str
    options: dict = field(default_factory=dict)

    def load(self) -> Config:
        """The config with the overrides."""
        return load_config(self.config, self.options)


class _StepTimes(Hook):
    # After hooks that check the whole length of the training.
    priority = 'LOWEST'

    def __init__(self, num_epochs: int) -> None:
        self.num_epochs = num_epochs
        self.ends: list[float] = []

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        loop._epoch = loop.max_epochs // 4
        loop._max_epochs = loop._epoch + self.num_epochs

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.ends.append(time.perf_counter())


def calibrate(cfg: Config, work_dir: Path, num_epochs: int = 1) -> dict:
    """Measures a training step, data loading included.

    From a quarter of the training on, when what is only for its first part is active (the leaky
    ReLU of deep training, mosaic): a detector pays for it over its whole budget.

    Args:
        cfg: Config of the training; a copy is changed.
        work_dir: Folder for logs.
        num_epochs: Epochs to measure.

    Returns:
        ``step_seconds``, the median, and ``steps_per_epoch``.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    for mode in ('val', 'test'):
        for key in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{mode}_{key}'] = None
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    cfg.default_hooks.pop('results', None)
    runner = Runner.from_cfg(cfg)
    timer = _StepTimes(num_epochs)
    runner.register_hook(timer)
    runner.train()
    steps = len(timer.ends) // num_epochs
    return dict(step_seconds=float(np.median(np.diff(timer.ends))), steps_per_epoch=steps)


def race(
    entrants: Sequence[Entrant],
    out_dir: Path,
    seconds: float,
    num_validations: int = 8,
    max_rounds: int = 5,
) -> dict[str, dict]:
    """Runs a race; what an interrupted one has done is not done again.

    Every entrant trains for as many epochs as fit into the budget by the duration of its training
    step, measured beforehand in interleaved rounds (A B C A B C ...), of which the fastest counts
    once a second one confirms it: so later load of the machine changes how long the race takes, and
    not its result. Validation does not count. The last weights are evaluated on the test data.

    Args:
        entrants: The detectors.
        out_dir: Folder for everything; one folder per entrant.
        seconds: Budget of every entrant.
        num_validations: Points of the learning curve.
        max_rounds: Measurements of a step at most; two that agree are enough.

    Returns:
        By name: ``step_seconds``, ``calibrations`` (all its measurements), ``epochs``,
        ``iterations``, ``metrics`` (of the test data) and ``curve`` (budget used in seconds, AP,
        AP50 of the validation data).

    Raises:
        RaceError: If ``out_dir`` holds results of another budget or other configs, or no
            two measurements of a step agree within 10 %.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    results = {}
    for entrant in entrants:  # what is wrong with the last one is said before the first one runs
        cfg = entrant.load()
        check_data_files(cfg, ('train', 'val', 'test'))
        results[entrant.name] = _stored(out_dir, entrant.name, cfg, seconds)
    for _ in range(max_rounds):
        for entrant in entrants:
            result = results[entrant.name]
            if _agreed(result['calibrations']):
                continue
            # In a process of its own, as the training: nothing is left over from the one before.
            command = [sys.executable, '-m', __name__, entrant.config, json.dumps(entrant.options)]
            log = out_dir / f'{entrant.name}.calibration.log'
            _run([*command, str(out_dir / 'calibration' / entrant.name)], log)
            measured = json.loads(log.read_text().splitlines()[-1])
            result['calibrations'].append(measured['step_seconds'])
            result['step_seconds'] = min(result['calibrations'])
            result['steps_per_epoch'] = measured['steps_per_epoch']
            _write(out_dir, entrant.name, result)
    for name, result in results.items():
        if not _agreed(result['calibrations']):
            times = ', '.join(f'{seconds:.3f}' for seconds in result['calibrations'])
            raise RaceError(
                f'a training step of {name} took {times} s, and no two agree with the fastest: '
                f'something else runs on this machine. Stop it, and delete {out_dir / name}.json.'
            )
    for entrant in entrants:
        result = results[entrant.name]
        if 'metrics' not in result:
            result.update(_compete(entrant, out_dir, seconds, num_validations, result))
            _write(out_dir, entrant.name, result)
    return results


def _agreed(seconds: Sequence[float]) -> bool:
    return len(seconds) > 1 and sorted(seconds)[1] <= min(seconds) * (1 + AGREEMENT)


def _compete(
    entrant: Entrant, out_dir: Path, seconds: float, num_validations: int, calibration: dict
) -> dict:
    """Trains and tests one entrant."""
    cfg = entrant.load()
    epoch_seconds = calibration['step_seconds'] * calibration['steps_per_epoch']
    epochs = max(1, round(seconds / epoch_seconds))
    rescale_schedule(cfg, epochs)
    cfg.train_cfg.val_interval = max(1, epochs // num_validations)
    cfg.default_hooks.checkpoint.interval = max(1, epochs // 10)
    config = out_dir / f'{entrant.name}.py'
    cfg.dump(config)
    work_dir = out_dir / entrant.name
    log = out_dir / f'{entrant.name}.log'
    train = [str(TOOLS / 'train.py'), str(config), '--work-dir', str(work_dir), '--resume']
    _run([sys.executable, *train], log)
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    test_dir = work_dir / 'test'
    test = [str(TOOLS / 'test.py'), str(config), checkpoint, '--work-dir', str(test_dir)]
    _run([sys.executable, *test], log)
    newest = max(test_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    curve = {
        entry['step']: [
            entry['step'] * epoch_seconds,
            entry['coco/bbox_mAP'],
            entry['coco/bbox_mAP_50'],
        ]
        for entry in read_scalars(work_dir)
        if 'coco/bbox_mAP' in entry
    }
    return dict(
        epochs=epochs,
        iterations=epochs * calibration['steps_per_epoch'],
        metrics=json.loads(newest.read_text()),
        curve=[curve[epoch] for epoch in sorted(curve)],
    )


def _stored(out_dir: Path, name: str, cfg: Config, seconds: float) -> dict:
    """What an earlier run of the same race has left, or an empty result."""
    digest = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()
    result = dict(seconds=seconds, config_sha256=digest, calibrations=[])
    file = out_dir / f'{name}.json'
    if not file.exists():
        return result
    found = json.loads(file.read_text())
    for key in ('seconds', 'config_sha256'):
        if found.get(key) != result[key]:
            raise RaceError(
                f'{file} is of another race: its {key} is {found.get(key)}, now {result[key]}. '
                f'Choose another folder, or delete {file} and {out_dir / name}.'
            )
    return found


def _run(command: list[str], log: Path) -> None:
    with open(log, 'a') as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-5:])
        raise RuntimeError(f'{" ".join(command[1:4])} ended with status {code}, see {log}:\n{tail}')


def _write(out_dir: Path, name: str, result: dict) -> None:
    (out_dir / f'{name}.json').write_text(json.dumps(result, indent=2) + '\n')


def _calibrate(config: str, options: str, work_dir: str) -> None:
    cfg = Entrant('', config, json.loads(options)).load()
    print(json.dumps(calibrate(cfg, Path(work_dir))))


if __name__ == '__main__':
    _calibrate(*sys.argv[1:])
