"""Trains items from scratch on one data set under one budget, before they are measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmdet_vanilla.benchmark.training_race import Entrant, race
from mmdet_vanilla.datasets.user_data import UserData
from mmdet_vanilla.utils.apply_data import apply_data
from mmdet_vanilla.utils.checkpoint import read_checkpoint, write_checkpoint
from mmdet_vanilla.utils.preflight import load_config
from mmdet_vanilla.utils.pretrained import start_from_scratch

from .errors import ComparisonError
from .items import Item

_UNITS = dict(s=1.0, sec=1.0, min=60.0, h=3600.0)


@dataclass(frozen=True)
class Budget:
    """How long every item trains: ``seconds`` or ``iterations``."""

    seconds: float | None = None
    iterations: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``600it``, ``90s``, ``10min`` or ``2h``.

        Raises:
            ComparisonError: If it is none of these.
        """
        found = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(it|s|sec|min|h)', text.strip())
        if found:
            number, unit = float(found[1]), found[2]
            if unit != 'it' and number > 0:
                return cls(seconds=number * _UNITS[unit])
            if unit == 'it' and number >= 1 and number == int(number):
                return cls(iterations=int(number))
        raise ComparisonError(
            f'--train {text}: expected iterations or a time, such as 600it, 90s, 10min or 2h.'
        )

    def __str__(self) -> str:
        if self.iterations is not None:
            return f'{self.iterations} iterations'
        return f'{self.seconds / 60:g} minutes'


@dataclass(frozen=True)
class Trained:
    """What a race has made of an item.

    Attributes:
        item: The item with its weights.
        result: Of the race: ``iterations``, ``batch_size``, ``curve``, ...
        changes: What was changed in its config.
    """

    item: Item
    result: dict
    changes: list[str]


def prepare(
    item: Item, data: UserData, folder: Path, keep_init: bool = False
) -> tuple[Entrant, list[str]]:
    """Writes the config that an item is trained with.

    Args:
        item: The item.
        data: With ``'train'`` and ``'val'`` splits.
        folder: Where to write it.
        keep_init: Whether to keep ``Pretrained`` initialisation.

    Returns:
        The entrant, and what was changed besides the data, in words.

    Raises:
        ComparisonError: If the item cannot be trained from scratch.
    """
    if item.kind != 'pytorch' or item.checkpoint is not None:
        what = (
            'exported files cannot be trained'
            if item.kind != 'pytorch'
            else ('it trains from scratch: leave the checkpoint out')
        )
        raise ComparisonError(f'--train with {item.spec!r}: {what}.')
    cfg = load_config(item.path)
    if not (cfg.get('train_cfg') or {}).get('max_epochs'):
        raise ComparisonError(
            f'--train with {item.spec!r}: expected a config that trains by epochs '
            '(train_cfg.max_epochs).'
        )
    changes = [] if keep_init else start_from_scratch(cfg)
    apply_data(cfg, data)
    cfg.work_dir = None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{item.key}.config.py'
    cfg.dump(path)
    return Entrant(item.key, str(path)), changes


def train_items(
    items: Sequence[Item],
    data: UserData,
    budget: Budget,
    folder: Path,
    seed: int = 0,
    keep_init: bool = False,
) -> dict[str, Trained | str]:
    """Trains items; a race that was interrupted goes on.

    Items that differ only in the form that is measured share a training.

    Args:
        items: The items.
        data: With ``'train'`` and ``'val'`` splits.
        budget: Of every item.
        folder: For everything.
        seed: Of weights, order and augmentation.
        keep_init: Whether to keep ``Pretrained`` initialisation.

    Returns:
        By name of the item, what it became, or the reason why it failed.

    Raises:
        UserError: If something is wrong with an item, before any training.
    """
    entrants, changes = {}, {}
    for item in items:
        if item.path not in entrants:
            entrants[item.path], changes[item.path] = prepare(item, data, folder, keep_init)
    results = race(
        list(entrants.values()),
        folder,
        seconds=budget.seconds,
        iterations=budget.iterations,
        seed=seed,
    )
    trained = {}
    for item in items:
        source = item.path
        entrant = entrants[source]
        result = results[entrant.name]
        if 'error' in result:
            trained[item.name] = result['error']
            continue
        weights = folder / f'{entrant.name}.pth'
        if not weights.exists():
            content = read_checkpoint(result['checkpoint'])
            write_checkpoint({k: content[k] for k in ('meta', 'state_dict')}, weights)
        item = replace(item, path=entrant.config, checkpoint=str(weights))
        trained[item.name] = Trained(item, result, changes[source])
    return trained
