"""One detector in a comparison, with all that is known of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mmdet_vanilla.utils.preflight import load_config

from .accuracy import Evaluation
from .items import Item
from .state import State


@dataclass
class Entry:
    """One detector in a comparison.

    Attributes:
        item: What it is.
        state: What was measured, on disk.
        training: Of a race: ``changes`` of its config, ``curve``, ``iterations``, ``batch_size``.
        evaluation: Of its detections, once they are there.
        interval: The 95 % interval of its AP, if known.
    """

    item: Item
    state: State
    training: dict | None = None
    evaluation: Evaluation | None = None
    interval: tuple[float, float] | None = None

    @classmethod
    def open(cls, item: Item, folder: Path, training: dict | None = None) -> Entry:
        """With what an earlier session has measured of the same item.

        Args:
            item: The item.
            folder: Of all items' states.
            training: Of a race.
        """
        state = State.read(folder / f'{item.key}.json', _fingerprint(item))
        return cls(item, state, training)

    @property
    def name(self) -> str:
        """Name of the item."""
        return self.item.name

    @property
    def weights(self) -> str:
        """Where its weights are from: random, checkpoint, trained or exported."""
        if self.item.kind != 'pytorch':
            return 'exported'
        if self.training:
            return 'trained'
        return 'checkpoint' if self.item.checkpoint else 'random'

    @property
    def detections_file(self) -> Path:
        """COCO result file of its detections; there as a whole or not at all."""
        name = f'{self.item.key}.{self.state.fingerprint[:12]}.detections.json'
        return self.state.file.with_name(name)


def _fingerprint(item: Item) -> str:
    parts = [item.spec, item.kind]
    if item.kind == 'pytorch':
        parts.append(load_config(item.path).pretty_text)
    for path in (item.checkpoint, None if item.kind == 'pytorch' else item.path):
        if path and os.path.isfile(path):
            stat = os.stat(path)
            parts.append(f'{path} {stat.st_size} {stat.st_mtime_ns}')
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()
