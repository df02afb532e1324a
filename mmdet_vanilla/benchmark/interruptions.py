"""Kills a training again and again, and compares its end with one that was left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmdet_vanilla.utils.atomic import PART
from mmdet_vanilla.utils.checkpoint import latest_checkpoint, read_checkpoint
from mmdet_vanilla.utils.errors import UserError

from .training_race import TOOLS

# What a training computes. Durations are in the log, and are never the same.
_COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


class InterruptionError(UserError, RuntimeError):
    """A training that cannot be interrupted as asked."""


def differences(first: Mapping, second: Mapping) -> list[str]:
    """What two checkpoints disagree on, to the last bit.

    Weights, averaged weights, state of the optimizer and of the schedules, and the losses of all
    steps are compared.

    Args:
        first: Contents of a checkpoint.
        second: Those of another one.

    Returns:
        Names of the entries that differ or are in one of them only.
    """
    parts = [{key: c[key] for key in _COMPARED if key in c} | _losses(c) for c in (first, second)]
    return list(_differences(*parts, ''))


def _losses(checkpoint: Mapping) -> dict[str, np.ndarray]:
    log = checkpoint['message_hub']['log_scalars']
    return {name: buffer.data[0] for name, buffer in log.items() if 'loss' in name}


def _differences(first: Any, second: Any, name: str) -> Iterator[str]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        yield from (f'{name}.{key}' for key in first.keys() ^ second.keys())
        for key in first.keys() & second.keys():
            yield from _differences(first[key], second[key], f'{name}.{key}')
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield name
    elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        if not np.array_equal(first, second):
            yield name
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            yield name
        for i, pair in enumerate(zip(first, second)):
            yield from _differences(*pair, f'{name}[{i}]')
    elif first != second:
        yield name


@dataclass
class Interruptions:
    """What happened to an interrupted training.

    Attributes:
        kills: Times that the process was killed.
        while_writing: Of these, when a checkpoint was being written.
        cut_off: Checkpoints that were left half written.
        before_first: Kills before the process had written a checkpoint of its own.
        iterations: Of the whole training.
        different: What differs at the end from the training that was left alone.
    """

    kills: int
    while_writing: int
    cut_off: int
    before_first: int
    iterations: int
    different: Sequence[str]


def interrupt(
    cfg: Config,
    out_dir: Path,
    kills: int,
    interval: int = 5,
    seed: int = 0,
) -> Interruptions:
    """Trains twice, once undisturbed and once killed (SIGKILL) at random moments and resumed.

    Every third kill comes while one of the first checkpoints of its process is being written, the
    others at a time drawn from three times what a process takes to its first checkpoint.

    Args:
        cfg: Config of the training, changed in place: a checkpoint every ``interval`` iterations, a
            fixed seed, no validation before the end.
        out_dir: Folder for both, which must not have been used.
        kills: How often.
        interval: Iterations between two checkpoints.
        seed: Of the moments.

    Returns:
        What happened.

    Raises:
        InterruptionError: If a process ends by itself, a checkpoint is not whole after a kill, or
            the training is too short for so many kills.
    """
    out_dir.mkdir(parents=True)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=interval, max_keep_ckpts=2)
    cfg.randomness = dict(seed=0)
    cfg.default_hooks.pop('results', None)
    config = out_dir / 'config.py'
    cfg.dump(config)

    whole, killed = out_dir / 'whole', out_dir / 'killed'
    process = _start(config, whole)
    began = time.monotonic()
    _wait(process, lambda: list(whole.glob('iter_*.pth')))
    startup = time.monotonic() - began
    _finish(process, whole)

    rng = random.Random(seed)
    result = Interruptions(0, 0, 0, 0, 0, ())
    for number in range(kills):
        before = latest_checkpoint(killed)
        stale = _parts(killed)
        process = _start(config, killed)
        if number % 3 == 0:
            # A handful of a training's milliseconds: between opening the file and renaming it.
            _wait_for_writing(process, killed, stale, rng.randint(1, 5))
            result.while_writing += 1
        else:
            time.sleep(rng.uniform(0, 3 * startup))
        if process.poll() is not None:
            raise InterruptionError(
                f'the training ended before kill {number + 1} of {kills} (status '
                f'{process.returncode}, see {killed}.log): train for more epochs, or kill less.'
            )
        process.kill()
        process.wait()
        result.kills += 1
        result.cut_off += len(_written(killed, stale))
        after = latest_checkpoint(killed)
        result.before_first += before == after
        pointer = killed / 'last_checkpoint'
        if pointer.exists() and not Path(pointer.read_text()).is_file():
            raise InterruptionError(f'{pointer} names {pointer.read_text()!r}, which is no file.')
        for path in killed.glob('*.pth'):
            read_checkpoint(path)
    _finish(_start(config, killed), killed)
    first, second = (read_checkpoint(latest_checkpoint(folder)) for folder in (whole, killed))
    result.iterations = first['meta']['iter']
    result.different = differences(first, second)
    return result


def _parts(folder: Path) -> dict[Path, int]:
    # Files that are half written, and when they were touched last.
    parts = {}
    for path in folder.glob(f'iter_*{PART}'):
        with suppress(FileNotFoundError):  # renamed meanwhile
            parts[path] = path.stat().st_mtime_ns
    return parts


def _written(folder: Path, stale: Mapping[Path, int]) -> set[Path]:
    return {path for path, touched in _parts(folder).items() if stale.get(path) != touched}


def _wait_for_writing(
    process: subprocess.Popen, folder: Path, stale: Mapping[Path, int], number: int
) -> None:
    # Until the process is writing its checkpoint of that number.
    seen: set[Path] = set()
    while len(seen) < number:
        _wait(process, lambda: _written(folder, stale) - seen)
        seen.update(_written(folder, stale))


def _start(config: Path, work_dir: Path) -> subprocess.Popen:
    command = [sys.executable, str(TOOLS / 'train.py'), str(config)]
    with open(f'{work_dir}.log', 'a') as log:
        return subprocess.Popen(
            [*command, '--work-dir', str(work_dir), '--resume'], stdout=log, stderr=log
        )


def _wait(process: subprocess.Popen, condition: Any) -> None:
    while not condition():
        if process.poll() is not None:
            raise InterruptionError(
                f'{" ".join(map(str, process.args))} ended with status {process.returncode} too '
                'early, see the log beside its work dir.'
            )
        time.sleep(1e-4)


def _finish(process: subprocess.Popen, work_dir: Path) -> None:
    if process.wait():
        raise InterruptionError(f'ended with status {process.returncode}, see {work_dir}.log.')
