"""Trains detectors for the same time or iterations, and compares what they have learnt."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdet_vanilla.utils.atomic import write_text
from mmdet_vanilla.utils.checkpoint import restrict_mmengine_loading
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
    """

    name: str
    config: str


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
    seconds: float | None = None,
    num_validations: int = 8,
    max_rounds: int = 5,
    iterations: int | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """Runs a race; what an interrupted one has done is not done again.

    Every entrant trains for as many epochs as fit into the budget by the duration of its training
    step, measured beforehand in interleaved rounds (A B C A B C ...), of which the fastest counts
    once a second one confirms it: so later load of the machine changes how long the race takes, and
    not its result. Validation does not count. One that fails costs the others nothing.

    Args:
        entrants: The detectors.
        out_dir: Folder for everything; one folder per entrant.
        seconds: Budget of every entrant, or ``None``.
        num_validations: Points of the learning curve.
        max_rounds: Measurements of a step at most; two that agree are enough.
        iterations: Budget of every entrant, instead of ``seconds``.
        seed: Of weights, order and augmentation.

    Returns:
        By name: ``step_seconds``, ``calibrations`` (all its measurements), ``epochs``,
        ``iterations``, ``batch_size``, ``checkpoint`` and ``curve`` (budget used in seconds or
        iterations, AP, AP50 of the validation data); or ``error``, why it failed.

    Raises:
        RaceError: If ``out_dir`` holds results of another budget or other configs.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    results = {}
    for entrant in entrants:  # what is wrong with the last one is said before the first one runs
        cfg = load_config(entrant.config)
        check_data_files(cfg, ('train', 'val'))
        budget = dict(seconds=seconds, iteration_budget=iterations, seed=seed)
        results[entrant.name] = _stored(out_dir, entrant.name, cfg, budget)

    def attempt(entrant: Entrant, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, the others go on
            results[entrant.name]['error'] = f'{type(error).__name__}: {error}'

    def calibrate_once(entrant: Entrant) -> None:
        result = results[entrant.name]
        # In a process of its own, as the training: nothing is left over from the one before.
        command = [sys.executable, '-m', __name__, entrant.config]
        log = out_dir / f'{entrant.name}.calibration.log'
        _run([*command, str(out_dir / 'calibration' / entrant.name)], log)
        measured = json.loads(log.read_text().splitlines()[-1])
        result['calibrations'].append(measured['step_seconds'])
        result['step_seconds'] = min(result['calibrations'])
        result['steps_per_epoch'] = measured['steps_per_epoch']
        _write(out_dir, entrant.name, result)

    def compete(entrant: Entrant) -> None:
        result = results[entrant.name]
        result.update(_compete(entrant, out_dir, num_validations, result))
        _write(out_dir, entrant.name, result)

    for _ in range(max_rounds if seconds is not None else 0):
        for entrant in entrants:
            result = results[entrant.name]
            if not _agreed(result['calibrations']) and 'error' not in result:
                attempt(entrant, partial(calibrate_once, entrant))
    for result in results.values():
        if seconds is not None and not _agreed(result['calibrations']) and 'error' not in result:
            times = ', '.join(f'{seconds:.3f}' for seconds in result['calibrations'])
            result['error'] = (
                f'a training step took {times} s, and no two agree with the fastest: something '
                'else runs on this machine. Stop it, and start again.'
            )
    for entrant in entrants:
        if not results[entrant.name].keys() & {'curve', 'error'}:
            attempt(entrant, partial(compete, entrant))
    return results


def divide_iterations(iterations: int, natural: int, least_epochs: int = 8) -> tuple[int, int]:
    """Divides a training into epochs of equal length.

    Args:
        iterations: Of the whole training, >= 1.
        natural: Iterations of one pass over the data.
        least_epochs: In a short training, how many at least, as far as there are iterations.

    Returns:
        Epochs and iterations of each. Their product is ``iterations`` where a divisor is near, and
        otherwise as close as it gets: at most about a quarter of a square root away.
    """
    wanted = min(iterations, max(least_epochs, iterations / max(natural, 1)))
    candidates = range(max(1, int(wanted / 2)), min(iterations, int(2 * wanted) + 1) + 1)
    epochs = min(
        candidates,
        key=lambda n: (abs(n * round(iterations / n) - iterations), abs(math.log(n / wanted))),
    )
    return epochs, round(iterations / epochs)


def _agreed(seconds: Sequence[float]) -> bool:
    return len(seconds) > 1 and sorted(seconds)[1] <= min(seconds) * (1 + AGREEMENT)


def _compete(entrant: Entrant, out_dir: Path, num_validations: int, result: dict) -> dict:
    """Trains one entrant."""
    cfg = load_config(entrant.config)
    if result['iteration_budget'] is None:
        steps = result['steps_per_epoch']
        epoch_budget = result['step_seconds'] * steps
        epochs, natural = max(1, round(result['seconds'] / epoch_budget)), steps
    else:
        epochs, steps, natural = _plan_iterations(cfg, result['iteration_budget'], num_validations)
        epoch_budget = steps
    cfg.randomness = dict(seed=result['seed'])
    # In configs of others, what resuming exactly takes.
    cfg.default_hooks.setdefault('exact_resume', dict(type='ExactResumeHook'))
    cfg.default_hooks.checkpoint.type = 'AtomicCheckpointHook'
    rescale_schedule(cfg, epochs, (natural, steps))
    cfg.train_cfg.val_interval = max(1, epochs // num_validations)
    cfg.default_hooks.checkpoint.interval = max(1, epochs // 10)
    cfg.default_hooks.checkpoint.setdefault('max_keep_ckpts', 3)
    config = out_dir / f'{entrant.name}.py'
    cfg.dump(config)
    work_dir = out_dir / entrant.name
    log = out_dir / f'{entrant.name}.log'
    train = [str(TOOLS / 'train.py'), str(config), '--work-dir', str(work_dir), '--resume']
    _run([sys.executable, *train], log)
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    curve = {
        entry['step']: [
            entry['step'] * epoch_budget,
            entry['coco/bbox_mAP'],
            entry['coco/bbox_mAP_50'],
        ]
        for entry in read_scalars(work_dir)
        if 'coco/bbox_mAP' in entry
    }
    return dict(
        epochs=epochs,
        iterations=epochs * steps,
        batch_size=cfg.train_dataloader.batch_size,
        checkpoint=checkpoint,
        curve=[curve[epoch] for epoch in sorted(curve)],
    )


def _plan_iterations(cfg: Config, iterations: int, num_validations: int) -> tuple[int, int, int]:
    """Epochs, iterations of each and of one pass; epochs of the data loader get that length."""
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    loader = cfg.train_dataloader
    size = len(DATASETS.build(copy.deepcopy(loader.dataset)))
    natural = max(1, size // loader.batch_size)
    epochs, steps = divide_iterations(iterations, natural, num_validations)
    loader.sampler = dict(type='EndlessShuffleSampler', num_samples=steps * loader.batch_size)
    # Groups by aspect ratio would make the number of batches depend on the order.
    loader.batch_sampler = None
    return epochs, steps, natural


def _stored(out_dir: Path, name: str, cfg: Config, budget: dict) -> dict:
    """What an earlier run of the same race has left, or an empty result."""
    digest = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()
    result = dict(budget, config_sha256=digest, calibrations=[])
    file = out_dir / f'{name}.json'
    if not file.exists():
        return result
    found = json.loads(file.read_text())
    for key in (*budget, 'config_sha256'):
        if found.get(key) != result[key]:
            raise RaceError(
                f'{file} is of another race: its {key} is {found.get(key)}, now {result[key]}. '
                f'Choose another folder, or delete {file} and {out_dir / name}.'
            )
    return {**result, **found}


def _run(command: list[str], log: Path) -> None:
    with open(log, 'a') as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-5:])
        raise RuntimeError(f'{" ".join(command[1:4])} ended with status {code}, see {log}:\n{tail}')


def _write(out_dir: Path, name: str, result: dict) -> None:
    write_text(out_dir / f'{name}.json', json.dumps(result, indent=2) + '\n')


def _calibrate(config: str, work_dir: str) -> None:
    restrict_mmengine_loading()
    print(json.dumps(calibrate(load_config(config), Path(work_dir))))


if __name__ == '__main__':
    _calibrate(*sys.argv[1:])
