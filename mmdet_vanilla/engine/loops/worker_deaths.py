"""When the death of a data loader's worker may be raised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What a worker's death can show itself by.
WORKER_ERRORS = (RuntimeError, EOFError, ConnectionError, FileNotFoundError)


@contextmanager
def deferred_worker_deaths() -> Iterator[None]:
    """Raises the death of a worker at the end of the block instead of anywhere inside.

    torch raises it from a signal handler, which could be in the middle of an optimizer's step.
    Outside the main thread and on Windows torch has no such handler, and this does nothing.

    Raises:
        RuntimeError: torch's, at the end of the block.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, 'SIGCHLD') else None
    if not callable(handler):
        yield
        return
    arrived = []
    signal.signal(signal.SIGCHLD, lambda *args: arrived.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    if arrived:
        handler(*arrived[-1])


def is_worker_death(error: Exception) -> bool:
    """Whether an error of a data loader says that a worker has gone without a word.

    Where it died while a batch was handed over, the connection says so before torch does; an
    error of the data set arrives as ``Caught ... in DataLoader worker``.
    """
    if isinstance(error, RuntimeError):
        return str(error).startswith('DataLoader worker')
    return isinstance(error, WORKER_ERRORS) and not str(error).startswith('Caught ')
