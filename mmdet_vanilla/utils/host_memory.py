"""Memory of this process outside of any GPU."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_STATUS = Path('/proc/self/status')


class HostMemory(NamedTuple):
    """Resident memory of a process.

    Args:
        now: Bytes.
        peak: Most bytes so far.
    """

    now: int
    peak: int


def host_memory() -> HostMemory | None:
    """Resident memory of this process, without that of others it started.

    Returns:
        The memory, or None where the system does not tell it in ``/proc`` (other than Linux).
    """
    try:
        fields = dict(line.split(':', 1) for line in _STATUS.read_text().splitlines())
        # In "kB", which are KiB.
        return HostMemory(*(int(fields[name].split()[0]) * 1024 for name in ('VmRSS', 'VmHWM')))
    except (OSError, KeyError, ValueError):
        return None


def reset_peak() -> bool:
    """Makes the peak of :func:`host_memory` begin anew at what is resident now.

    Returns:
        Whether the system could do so (Linux, with the right to write ``/proc/self/clear_refs``).
    """
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True
