"""Progress with the time that is left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Stages:
    """Bars of the stages of a comparison, one below the other; on no terminal, a line of each.

    Args:
        console: Where they are shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            # Calls of one stage take seconds to minutes: an average over a short time jumps.
            speed_estimate_period=600,
        )

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable]:
        """A stage of a known number of steps.

        Yields:
            What to call after a step: without arguments, or with ``to``, the steps done.
        """
        if not total:
            yield lambda to=None: None
            return
        self._announce(what)
        task = self._progress.add_task(what, total=total)

        def advance(to: int | None = None) -> None:
            if to is None:
                self._progress.advance(task)
            else:
                self._progress.update(task, completed=to)

        yield advance
        self._progress.update(task, completed=total)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A stage whose end is not known."""
        self._announce(what)
        task = self._progress.add_task(what, total=None)
        yield
        self._progress.update(task, total=1, completed=1)

    def _announce(self, what: str) -> None:
        if not self._console.is_terminal:
            self._console.print(what, highlight=False)
