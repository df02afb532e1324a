"""The long work of a comparison, stage by stage; what is on disk is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .data import ComparisonData
from .detectors import Detector, load_detector
from .entry import Entry
from .latency import time_rounds
from .progress import Stages
from .race import Trained, train_items
from .settings import Settings
from .worker import WorkerError, describe, run_worker


@dataclass
class Measuring:
    """Measures entries; one that fails gets its reason and takes no further part.

    Args:
        settings: How to measure.
        entries: Detectors; a race exchanges their items, in place.
        images: Files that costs and latency are measured on, in turn.
        data: Data to detect on, and to train on.
        stages: Shows progress.
        on_change: Called whenever something new is known.
        on_failure: Called with an entry that has failed.
    """

    settings: Settings
    entries: list[Entry]
    images: Sequence[str]
    data: ComparisonData | None
    stages: Stages
    on_change: Callable[[], None]
    on_failure: Callable[[Entry], None]

    def run(self) -> None:
        """All stages: training, if wanted, costs, latency, and detections, if there are data."""
        if self.settings.train:
            self.train()
        self.profile()
        self.time()
        if self.data:
            self.detect()

    def train(self) -> None:
        """Trains all under one budget."""
        settings = self.settings
        with self.stages.waiting(f'training, {settings.train} each'):
            trained = train_items(
                [entry.item for entry in self.entries],
                self.data.train_splits,
                settings.train,
                settings.out / 'train',
                settings.seed,
                settings.keep_init,
            )
        for i, entry in enumerate(self.entries):
            result = trained[entry.name]
            if not isinstance(result, Trained):
                self._failed(entry, f'training: {result}')
                continue
            keys = ('curve', 'iterations', 'batch_size')
            training = dict(changes=result.changes, **{k: result.result[k] for k in keys})
            self.entries[i] = Entry.open(result.item, entry.state.file.parent, training)

    def profile(self) -> None:
        """Start-up, memory, parameters and operations, each in a process of its own."""
        todo = [entry for entry in self._left() if entry.state.profile is None]
        request = dict(self._request(), image=self.images[0])
        with self.stages.counting('memory, start-up, operations', len(todo)) as advance:
            for entry in todo:
                state = entry.state
                try:
                    state.profile = run_worker('profile', entry.item, request, state.file.parent)
                except WorkerError as error:
                    self._failed(entry, str(error))
                else:
                    state.write()
                    self.on_change()
                advance()

    def time(self) -> None:
        """Latency of all in one process, in rounds."""
        settings = self.settings
        sizes = {size: settings.batch_rounds for size in settings.batches if size > 1}
        rounds = {1: settings.rounds, **sizes}

        def missing(entry: Entry, size: int) -> int:
            return max(0, rounds[size] - len(entry.state.timings.get(size, ())))

        todo = [entry for entry in self._left() if any(missing(entry, size) for size in rounds)]
        if not todo:
            return
        calls = sum(missing(entry, size) for entry in todo for size in rounds)
        detectors = self._load(todo)
        with self.stages.counting('latency, in turn', calls) as advance:
            for size, number in rounds.items():
                self._time_batches(detectors, size, number, advance)
                self.on_change()

    def _load(self, entries: Sequence[Entry]) -> dict[str, tuple[Entry, Detector]]:
        torch.set_num_threads(self.settings.num_threads)
        loaded = {}
        with self.stages.waiting('loading all detectors'):
            for entry in entries:
                try:
                    detector = load_detector(entry.item, **self._request())
                except Exception as error:  # whatever it is, the others go on
                    self._failed(entry, describe(error))
                else:
                    loaded[entry.name] = (entry, detector)
        return loaded

    def _time_batches(
        self,
        detectors: dict[str, tuple[Entry, Detector]],
        size: int,
        rounds: int,
        advance: Callable[[], None],
    ) -> None:
        """Rounds with one size of batches; who fails with single images is taken out."""
        settings = self.settings

        def on_round(name: str, error: Exception | None) -> None:
            entry = detectors[name][0]
            if error is None:
                advance()
                entry.state.write()
            elif size == 1:
                detectors.pop(name)
                self._failed(entry, describe(error))
            else:
                entry.state.batch_errors[size] = describe(error)

        fitting = {}
        for name, (entry, detector) in detectors.items():
            if size <= (detector.max_batch_size or size):
                fitting[name] = detector
            else:
                entry.state.batch_errors[size] = 'the file takes single images'
        time_rounds(
            fitting,
            {name: detectors[name][0].state.timings for name in fitting},
            self.images,
            size,
            rounds,
            settings.warmup if size == 1 else min(settings.warmup, 1),
            settings.time_decoding,
            on_round,
        )

    def detect(self) -> None:
        """Detections of those with weights, each in a process of its own."""
        split = self.data.split
        entries = [entry for entry in self._left() if entry.item.has_weights]
        todo = [entry for entry in entries if not entry.detections_file.exists()]
        request = dict(
            self._request(),
            ann_file=str(split.ann_file),
            split=split.name,
            images=str(split.folder),
        )
        num_images = len(split.content['images'])
        with self.stages.counting('detections on the data', num_images * len(todo)) as advance:
            for number, entry in enumerate(todo):
                try:
                    run_worker(
                        'detect',
                        entry.item,
                        dict(request, out_file=str(entry.detections_file)),
                        entry.state.file.parent,
                        lambda done, number=number: advance(to=number * num_images + done),
                    )
                except WorkerError as error:
                    self._failed(entry, str(error))

    def _left(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state.error is None]

    def _failed(self, entry: Entry, error: str) -> None:
        entry.state.error = error
        entry.state.write()
        self.on_change()
        self.on_failure(entry)

    def _request(self) -> dict:
        settings = self.settings
        return dict(
            device=settings.device,
            threads=settings.num_threads,
            img_scale=settings.img_scale,
            seed=settings.seed,
        )
