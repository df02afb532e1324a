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
from .worker import describe, run_worker


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
        """All stages: training, if wanted, what has a process of its own, latency."""
        if self.settings.train:
            self.train()
        self.measure_alone()
        self.time()

    def train(self) -> None:
        """Trains all under one budget."""
        settings = self.settings
        with self.stages.waiting(f'training, {settings.train} each'):
            trained = train_items(
                [entry.item for entry in self.entries],
                self.data.user_data,
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

    def measure_alone(self) -> None:
        """Start-up, memory and operations, then detections, each entry in its own process."""
        num_images = len(self.data.split.content['images']) if self.data else 0
        todo = []
        for entry in self._left():
            stages = ['profile'] if entry.state.profile is None else []
            if self.data and entry.item.has_weights and not entry.detections_file.exists():
                stages.append('detect')
            if stages:
                steps = ('profile' in stages) + ('detect' in stages) * num_images
                todo.append((entry, stages, steps))
        what = 'memory, start-up, operations' + (', detections on the data' if self.data else '')
        begin = 0
        with self.stages.counting(what, sum(steps for *_, steps in todo)) as advance:
            for entry, stages, steps in todo:
                before_images = begin + ('profile' in stages)
                self._run_worker(
                    entry, stages, lambda done, first=before_images: advance(to=first + done)
                )
                begin += steps
                advance(to=begin)

    def _run_worker(
        self, entry: Entry, stages: Sequence[str], on_progress: Callable[[int], None]
    ) -> None:
        request = dict(self._request(), image=self.images[0])
        if self.data:
            split = self.data.split
            request.update(
                ann_file=str(split.ann_file),
                split=split.name,
                images=str(split.folder),
                out_file=str(entry.detections_file),
            )
        state = entry.state
        answer = run_worker(stages, entry.item, request, state.file.parent, on_progress)
        state.profile = answer.results.get('profile', state.profile)
        if answer.error is not None:
            self._failed(entry, answer.error)
        elif 'profile' in stages:
            state.write()
            self.on_change()

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
