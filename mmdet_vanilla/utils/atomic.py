"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

PART = '.part'


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[str]:
    """Lets a file be written beside its place, and moves it there once it is on the disk.

    Whoever reads ``path`` meanwhile, or after a crash at any instant, finds what was there before
    or all of the new file.

    Args:
        path: Where the file shall be. Its folder is made; a symbolic link is followed.

    Yields:
        Path to write to. What is there is removed if the block fails.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    part = path + PART
    try:
        yield part
        _flush(part)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise
    with suppress(OSError):  # a folder cannot be opened on Windows
        _flush(folder)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes or replaces a text file, in UTF-8, by :func:`atomic_path`."""
    AtomicLocalBackend().put_text(text, path)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AtomicLocalBackend(LocalBackend):
    """mmengine's access to local files, where writing one is atomic."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes."""
        with atomic_path(filepath) as part, open(part, 'wb') as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Writes a text."""
        self.put(obj.encode(encoding), filepath)


def write_atomically() -> None:
    """Makes what mmengine writes to local files in this process atomic, checkpoints above all."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
