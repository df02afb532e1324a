"""What is known of an item, on disk after every step, so that a comparison can go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from mmdet_vanilla.utils.atomic import write_text

from .latency import Timing


@dataclass
class State:
    """What is known of an item.

    Attributes:
        file: Where it is written.
        fingerprint: Of the item's config, weights and file: another one, and nothing is known.
        error: Why it failed, in one line.
        profile: What the worker's ``profile`` returned.
        timings: By batch size.
        batch_errors: By batch size, why there are none.
    """

    file: Path
    fingerprint: str = ''
    error: str | None = None
    profile: dict | None = None
    timings: dict[int, list[Timing]] = field(default_factory=dict)
    batch_errors: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, fingerprint: str) -> State:
        """From a file, or empty where it does not exist or is of another fingerprint."""
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError):
            return cls(file, fingerprint)
        if content.get('fingerprint') != fingerprint:
            return cls(file, fingerprint)
        timings = {
            int(size): [Timing(*values) for values in entries]
            for size, entries in content['timings'].items()
        }
        # What failed is tried once more.
        return cls(file, fingerprint, None, content['profile'], timings)

    def write(self) -> None:
        """To its file."""
        content = dict(
            fingerprint=self.fingerprint,
            error=self.error,
            profile=self.profile,
            timings=self.timings,
        )
        write_text(self.file, json.dumps(content, indent=1))
