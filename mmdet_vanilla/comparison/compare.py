"""Measures detectors side by side and writes what was found: what tools/compare.py does."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from mmdet_vanilla.utils.atomic import write_text

from .checks import check_item
from .columns import Column, columns_of
from .data import ComparisonData, open_data
from .disagreements import by_image, worst_disagreements
from .entry import Entry
from .evaluating import evaluate
from .folder import begin_session, now, open_folder
from .items import parse_items
from .markdown import to_report
from .measuring import Measuring
from .notes import notes
from .preprocessing import sample_image
from .progress import Stages
from .report import write_report
from .rows import make_row
from .settings import Settings
from .system import hardware, software
from .table import to_csv, to_markdown

FORMAT = 1
# Images that latency is measured on, in turn.
_LATENCY_IMAGES = 8


class Comparison:
    """A comparison; :meth:`run` does it.

    Args:
        specs: Items as :func:`parse_item` takes them.
        settings: How to compare.
        command: The command line, for the report.
        resume: Whether ``settings.out`` may hold results, of which nothing is measured again.
        console: Where progress is shown.

    Raises:
        UserError: If something is wrong that can be told before any long work.
    """

    def __init__(
        self,
        specs: Sequence[str],
        settings: Settings,
        command: str = '',
        resume: bool = False,
        console: Console | None = None,
    ) -> None:
        self.settings = settings
        self.command = command
        self.console = console or Console()
        items = parse_items(specs)
        open_folder(settings, resume)
        self.data = open_data(settings) if settings.data else None
        if self.data:
            self._introduce(self.data)
        for item in items:
            check_item(item, settings, self.data)
        self.num_sessions = begin_session(settings, command)
        self.images = self._latency_images()
        self.entries = [Entry.open(item, settings.out / 'items') for item in items]
        self.differences: list[dict] = []

    def _introduce(self, data: ComparisonData) -> None:
        for line in data.user_data.summary():
            self.console.print(line, highlight=False)
        names = data.unreadable
        if names:
            self.console.print(
                f'{len(names)} images cannot be read and are left out: {", ".join(names[:10])}'
                + (', ...' if len(names) > 10 else ''),
                style='yellow',
                highlight=False,
            )

    def _latency_images(self) -> list[str]:
        if self.settings.image:
            return [self.settings.image]
        if self.data:
            split = self.data.split
            images = split.content['images'][:_LATENCY_IMAGES]
            return [str(split.path_of(image)) for image in images]
        import cv2

        path = self.settings.out / 'sample.png'
        cv2.imwrite(str(path), sample_image())
        return [str(path)]

    @property
    def columns(self) -> list[Column]:
        """Columns of the table."""
        classes = list(self.data.split.classes) if self.data else []
        return columns_of(list(self.settings.batches), classes)

    def rows(self) -> list[dict]:
        """One dict per item, keys as in :attr:`columns`; ``None`` where nothing is known."""
        return [make_row(entry, self.columns, self.data is not None) for entry in self.entries]

    def run(self) -> dict:
        """Measures everything and writes all files.

        Returns:
            The content of ``compare.json``.
        """
        with Stages(self.console) as stages:
            Measuring(
                self.settings,
                self.entries,
                self.images,
                self.data,
                stages,
                on_change=self.write,
                on_failure=self._say_failure,
            ).run()
        settings = self.settings
        if self.data:
            self.differences = evaluate(
                self.entries, self.data.split, settings.resamples, settings.seed
            )
        return self.write(final=True)

    def _say_failure(self, entry: Entry) -> None:
        text = f'{entry.name} failed: {entry.state.error}'
        self.console.print(text, style='red', highlight=False)

    def write(self, final: bool = False) -> dict:
        """Writes what is known so far; pictures and the page only at the end.

        Returns:
            The content of ``compare.json``.
        """
        out, settings, columns = self.settings.out, self.settings, self.columns
        rows = self.rows()
        report = dict(
            format=FORMAT,
            created=now(),
            complete=final,
            command=self.command,
            hardware=hardware(settings.device, settings.num_threads),
            software=software(),
            settings=settings.as_dict(),
            columns={column.key: column.meaning for column in columns},
            rows=rows,
            differences=self.differences,
            notes=notes(self, rows),
            unreadable_images=list(self.data.unreadable) if self.data else [],
            training={entry.name: entry.training for entry in self.entries if entry.training},
            precision_recall={
                entry.name: entry.evaluation.precision_recall()
                for entry in self.entries
                if entry.evaluation
            },
            timings={
                entry.name: {str(size): values for size, values in entry.state.timings.items()}
                for entry in self.entries
            },
        )
        confident = self._confident() if final else {}
        if final:
            report['disagreements'] = self._disagreements(confident)
        write_text(out / 'compare.json', json.dumps(report, indent=1, ensure_ascii=False))
        write_text(out / 'compare.csv', to_csv(columns, rows))
        if final:
            write_text(out / 'compare.md', to_report(report, to_markdown(columns, rows)))
            split = self.data.split if self.data else None
            write_report(report, columns, split, confident, out, settings.score_thr)
        return report

    def _confident(self) -> dict[str, dict]:
        """By name of the detector and id of the image, detections that are worth drawing."""
        return {
            entry.name: by_image(
                json.loads(entry.detections_file.read_text()), self.settings.score_thr
            )
            for entry in self.entries
            if entry.evaluation
        }

    def _disagreements(self, confident: dict[str, dict]) -> list[dict]:
        if len(confident) < 2:
            return []
        ids = [image['id'] for image in self.data.split.content['images']]
        keys = ('image_id', 'number', 'a', 'b')
        return [dict(zip(keys, entry)) for entry in worst_disagreements(confident, ids)]


def compare(
    specs: Sequence[str],
    settings: Settings,
    command: str = '',
    resume: bool = False,
    console: Console | None = None,
) -> dict:
    """Compares detectors.

    Args:
        specs, settings, command, resume, console: See :class:`Comparison`.

    Returns:
        The content of ``compare.json``, which is in ``settings.out`` with the other files.

    Raises:
        UserError: If something is wrong that can be told before any long work. What fails later
            is in the row of its item.
    """
    return Comparison(specs, settings, command, resume, console).run()
