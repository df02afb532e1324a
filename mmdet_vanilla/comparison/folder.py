"""The folder of a comparison: what is in it, and whether a comparison may go on there."""

from __future__ import annotations

import datetime
import json

from mmdet_vanilla.utils.atomic import write_text
from mmdet_vanilla.utils.preflight import write_obstacle

from .errors import ComparisonError
from .settings import Settings

# More rounds and resamples only add to what is there.
_FREE = ('rounds', 'batch_rounds', 'resamples', 'batches', 'score_thr', 'warmup')


def open_folder(settings: Settings, resume: bool = False) -> None:
    """Makes the folder of a comparison, or opens it again.

    Args:
        settings: Of the comparison, ``out`` among them.
        resume: Whether the folder may hold an earlier comparison.

    Raises:
        ComparisonError: If the folder cannot be written, or holds a comparison that this one does
            not continue.
    """
    out = settings.out
    obstacle = write_obstacle(out / 'items')
    if obstacle:
        raise ComparisonError(f'cannot write to {out}: {obstacle}.')
    file = out / 'settings.json'
    content = settings.as_dict()
    if file.exists():
        if not resume:
            raise ComparisonError(
                f'{out} holds an earlier comparison: --resume continues it, or choose another '
                'folder by --out.'
            )
        found = json.loads(file.read_text())
        other = [k for k in content if k not in _FREE and found.get(k) != content[k]]
        if other:
            was = ', '.join(f'{k} {found.get(k)} (now {content[k]})' for k in other)
            raise ComparisonError(
                f'--resume: {out} was measured with other settings: {was}. Choose another '
                'folder by --out.'
            )


def begin_session(settings: Settings, command: str = '') -> int:
    """Writes down with what settings is compared, once nothing is wrong with them.

    Args:
        settings: Of the comparison, ``out`` among them.
        command: The command line.

    Returns:
        How many sessions have worked there, this one included.
    """
    out = settings.out
    write_text(out / 'settings.json', json.dumps(settings.as_dict(), indent=1))
    file = out / 'sessions.json'
    sessions = json.loads(file.read_text()) if file.exists() else []
    sessions.append(dict(started=now(), command=command))
    write_text(file, json.dumps(sessions, indent=1))
    return len(sessions)


def now() -> str:
    """Date, time and time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec='seconds')
