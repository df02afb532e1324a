"""Measures detectors side by side and writes what was found: what tools/compare.py does."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from mmdet_vanilla.utils.preflight import load_config

from .accuracy import Evaluation
from .bootstrap import compare_ap, resample_weights, resampled_ap
from .columns import columns_of
from .dataset import Split, find_split, match_classes, unreadable_images, without_images
from .detectors import (
    Detector,
    build_model,
    config_of,
    load_detector,
    num_classes_of,
    read_metadata,
    scope,
)
from .disagreements import by_image, worst_disagreements
from .errors import ComparisonError
from .files import write_text
from .items import Item, parse_items
from .latency import summarize, time_rounds
from .markdown import to_report
from .notes import notes
from .preprocessing import own_pipeline, sample_image
from .progress import Stages
from .race import Trained, prepare, train_items
from .report import write_report
from .settings import Settings
from .state import State
from .system import hardware, software
from .table import to_csv, to_markdown
from .worker import WorkerError, describe, run_worker

FORMAT = 1
# Images that latency is measured on, in turn.
_LATENCY_IMAGES = 8


class Comparison:
    """A comparison, step by step; :meth:`run` does all of them.

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
        self.items = parse_items(specs)
        self.weights = {item.name: _weights_of(item) for item in self.items}
        self.training: dict[str, dict] = {}
        self.unreadable: dict[int, str] = {}
        self.split: Split | None = None
        self.train_splits: dict[str, Split] = {}
        self._open_folder(resume)
        if settings.data:
            self._open_data()
        for item in self.items:
            self._check_item(item)
        self.images = self._latency_images()
        self.states = {item.name: self._state_of(item) for item in self.items}
        self.evaluations: dict[str, Evaluation] = {}
        self.differences: list[dict] = []
        self.intervals: dict[str, tuple[float, float]] = {}

    # Before the long work

    def _open_folder(self, resume: bool) -> None:
        out = self.settings.out
        try:
            (out / 'items').mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out / 'items'):
                pass
        except OSError as error:
            raise ComparisonError(f'cannot write to {out}: {error.strerror}.') from None
        file = out / 'settings.json'
        settings = self.settings.as_dict()
        if file.exists():
            found = json.loads(file.read_text())
            if not resume:
                raise ComparisonError(
                    f'{out} holds an earlier comparison: --resume continues it, or choose another '
                    'folder by --out.'
                )
            # More rounds and resamples only add to what is there.
            free = ('rounds', 'batch_rounds', 'resamples', 'batches', 'score_thr', 'warmup')
            other = [k for k in settings if k not in free and found.get(k) != settings[k]]
            if other:
                was = ', '.join(f'{k} {found.get(k)} (now {settings[k]})' for k in other)
                raise ComparisonError(
                    f'--resume: {out} was measured with other settings: {was}. Choose another '
                    'folder by --out.'
                )
        write_text(file, json.dumps(settings, indent=1))
        sessions = out / 'sessions.json'
        self.sessions = json.loads(sessions.read_text()) if sessions.exists() else []
        self.sessions.append(dict(started=_now(), command=self.command))
        write_text(sessions, json.dumps(self.sessions, indent=1))

    def _open_data(self) -> None:
        settings, folder = self.settings, self.settings.out / 'data'
        found = find_split(settings.data, settings.split, settings.images)
        splits = {'eval': found}
        if settings.train:
            splits['train'] = find_split(settings.data, 'train')
            try:
                splits['val'] = find_split(settings.data, 'val')
            except ComparisonError:
                splits['val'] = found
            if set(splits['train'].classes) != set(found.classes):
                raise ComparisonError(
                    f'the categories of {splits["train"].ann_file} and {found.ann_file} differ.'
                )
        for key, split in splits.items():
            bad = unreadable_images(split)
            self.unreadable.update({f'{split.name}/{i}': name for i, name in bad.items()})
            splits[key] = without_images(split, bad, folder)
        if self.unreadable:
            names = list(self.unreadable.values())
            self.console.print(
                f'{len(names)} images cannot be read and are left out: {", ".join(names[:10])}'
                + (', ...' if len(names) > 10 else ''),
                style='yellow',
                highlight=False,
            )
        self.split = splits.pop('eval')
        self.train_splits = splits

    def _check_item(self, item: Item) -> None:
        settings = self.settings
        if item.kind != 'pytorch':
            if settings.train:
                prepare(item, self.train_splits, settings.out / 'train')
            names = read_metadata(item)['names']
            if self.split:
                match_classes(names, len(names), self.split, item.spec)
            return
        cfg = config_of(item)
        if 'model' not in cfg:
            raise ComparisonError(f'{item.spec}: the config has no model.')
        own_pipeline(cfg)
        if settings.train:
            prepare(item, self.train_splits, settings.out / 'train', settings.keep_init)
        elif item.checkpoint:
            with scope(cfg.get('default_scope') or 'mmdet'):
                _, classes = build_model(cfg, item.checkpoint)
            if self.split:
                match_classes(classes, num_classes_of(cfg), self.split, item.spec)

    def _latency_images(self) -> list[str]:
        if self.settings.image:
            return [self.settings.image]
        if self.split:
            images = self.split.content['images'][:_LATENCY_IMAGES]
            return [str(self.split.path_of(image)) for image in images]
        import cv2

        path = self.settings.out / 'sample.png'
        cv2.imwrite(str(path), sample_image())
        return [str(path)]

    def _state_of(self, item: Item) -> State:
        parts = [item.spec, item.kind]
        if item.kind == 'pytorch':
            parts.append(load_config(item.path).pretty_text)
        for path in (item.checkpoint, None if item.kind == 'pytorch' else item.path):
            if path and os.path.isfile(path):
                stat = os.stat(path)
                parts.append(f'{path} {stat.st_size} {stat.st_mtime_ns}')
        fingerprint = hashlib.sha256('\n'.join(parts).encode()).hexdigest()
        return State.read(self.settings.out / 'items' / f'{item.key}.json', fingerprint)

    # The long work

    def run(self) -> dict:
        """Measures everything and writes all files.

        Returns:
            The content of ``compare.json``.
        """
        with Stages(self.console) as stages:
            if self.settings.train:
                self._train(stages)
            self._profile(stages)
            self._time(stages)
            if self.split:
                self._detect(stages)
        self._evaluate()
        return self.write(final=True)

    def _failed(self, item: Item, error: str) -> None:
        state = self.states[item.name]
        state.error = error
        state.write()
        self.write()
        self.console.print(f'{item.name} failed: {error}', style='red', highlight=False)

    def _left(self) -> list[Item]:
        return [item for item in self.items if self.states[item.name].error is None]

    def _train(self, stages: Stages) -> None:
        settings = self.settings
        with stages.waiting(f'training, {settings.train} each'):
            trained = train_items(
                self.items,
                self.train_splits,
                settings.train,
                settings.out / 'train',
                settings.seed,
                settings.keep_init,
            )
        for i, item in enumerate(self.items):
            result = trained[item.name]
            if not isinstance(result, Trained):
                self._failed(item, f'training: {result}')
                continue
            self.items[i] = result.item
            self.weights[item.name] = 'trained'
            self.training[item.name] = dict(
                changes=result.changes,
                curve=result.result['curve'],
                iterations=result.result['iterations'],
                batch_size=result.result['batch_size'],
            )
            self.states[item.name] = self._state_of(result.item)

    def _request(self) -> dict:
        settings = self.settings
        return dict(
            device=settings.device,
            threads=settings.num_threads,
            img_scale=settings.img_scale,
            seed=settings.seed,
        )

    def _profile(self, stages: Stages) -> None:
        todo = [item for item in self._left() if self.states[item.name].profile is None]
        request = dict(self._request(), image=self.images[0])
        with stages.counting('memory, start-up, operations', len(todo)) as advance:
            for item in todo:
                try:
                    state = self.states[item.name]
                    state.profile = run_worker('profile', item, request, state.file.parent)
                except WorkerError as error:
                    self._failed(item, str(error))
                else:
                    state.write()
                    self.write()
                advance()

    def _time(self, stages: Stages) -> None:
        settings = self.settings
        sizes = {size: settings.batch_rounds for size in settings.batches if size > 1}
        rounds = {1: settings.rounds, **sizes}

        def missing(item: Item, size: int) -> int:
            return max(0, rounds[size] - len(self.states[item.name].timings.get(size, ())))

        todo = [item for item in self._left() if any(missing(item, size) for size in rounds)]
        calls = sum(missing(item, size) for item in todo for size in rounds)
        if not todo:
            return
        torch.set_num_threads(settings.num_threads)
        detectors: dict[str, Detector] = {}
        by_name = {item.name: item for item in todo}
        with stages.waiting('loading all detectors'):
            for item in todo:
                try:
                    detectors[item.name] = load_detector(item, **self._request())
                except Exception as error:
                    self._failed(item, describe(error))
        timings = {name: self.states[name].timings for name in detectors}
        with stages.counting('latency, in turn', calls) as advance:
            for size, number in rounds.items():

                def on_round(name: str, error: Exception | None, size: int = size) -> None:
                    state = self.states[name]
                    if error is None:
                        advance()
                        state.write()
                    elif size == 1:
                        detectors.pop(name)
                        self._failed(by_name[name], describe(error))
                    else:
                        state.batch_errors[size] = describe(error)

                fitting = {
                    name: detector
                    for name, detector in detectors.items()
                    if size <= (detector.max_batch_size or size)
                }
                for name in detectors.keys() - fitting.keys():
                    self.states[name].batch_errors[size] = 'the file takes single images'
                time_rounds(
                    fitting,
                    timings,
                    self.images,
                    size,
                    number,
                    settings.warmup if size == 1 else min(settings.warmup, 1),
                    settings.time_decoding,
                    on_round,
                )
                self.write()

    def _detections_file(self, item: Item) -> Path:
        fingerprint = self.states[item.name].fingerprint[:12]
        return self.settings.out / 'items' / f'{item.key}.{fingerprint}.detections.json'

    def _detect(self, stages: Stages) -> None:
        items = [item for item in self._left() if item.has_weights]
        todo = [item for item in items if not self._detections_file(item).exists()]
        request = dict(
            self._request(),
            ann_file=str(self.split.ann_file),
            split=self.split.name,
            images=str(self.split.folder),
        )
        num_images = len(self.split.content['images'])
        with stages.counting('detections on the data', num_images * len(todo)) as advance:
            for number, item in enumerate(todo):
                out_file = self._detections_file(item)
                folder = self.states[item.name].file.parent
                try:
                    run_worker(
                        'detect',
                        item,
                        dict(request, out_file=str(out_file)),
                        folder,
                        lambda done, number=number: advance(to=number * num_images + done),
                    )
                except WorkerError as error:
                    self._failed(item, str(error))

    # Results

    def _evaluate(self) -> None:
        if not self.split:
            return
        aps = {}
        for item in self._left():
            file = self._detections_file(item)
            if not (item.has_weights and file.exists()):
                continue
            self.evaluations[item.name] = Evaluation(self.split, json.loads(file.read_text()))
        if not self.settings.resamples:
            return
        num_images = len(self.split.content['images'])
        weights = resample_weights(num_images, self.settings.resamples, self.settings.seed)
        for name, evaluation in self.evaluations.items():
            aps[name] = resampled_ap(evaluation.coco_eval, weights)
            known = aps[name][np.isfinite(aps[name])]
            if len(known):
                low, high = np.percentile(known, [2.5, 97.5])
                self.intervals[name] = (float(low), float(high))
        for a, b in combinations(self.evaluations, 2):
            ap, other = (self.evaluations[name].stats['AP'] for name in (a, b))
            if ap is not None and other is not None:
                interval = compare_ap(ap, other, aps[a], aps[b])
                self.differences.append(dict(a=a, b=b, **interval._asdict()))

    @property
    def classes(self) -> list[str]:
        """Names of the data's classes."""
        return list(self.split.classes) if self.split else []

    def rows(self) -> list[dict]:
        """One dict per item, keys as in :data:`COLUMNS`; ``None`` where nothing is known."""
        return [self._row(item) for item in self.items]

    def _row(self, item: Item) -> dict:
        state, profile = self.states[item.name], self.states[item.name].profile or {}
        columns = columns_of(list(self.settings.batches), self.classes)
        row = dict.fromkeys(column.key for column in columns)
        exported = item.kind != 'pytorch'
        form = 'exported' if exported else 'fused' if item.deploy else 'training'
        suffix = '' if form == 'training' else '_fused'
        memory = profile.get('memory_bytes') or {}
        height, width = profile.get('input_size') or (None, None)
        row.update(
            name=item.name,
            item=item.spec,
            kind=item.kind,
            form=form,
            weights=self.weights[item.name],
            status='failed' if state.error else 'ok',
            input=f'{height}x{width}' if height else None,
            input_height=height,
            input_width=width,
            parameters=profile.get(f'parameters{suffix}'),
            parameters_training=profile.get('parameters'),
            parameters_fused=profile.get('parameters_fused'),
            macs=profile.get(f'macs{suffix}'),
            macs_training=profile.get('macs'),
            macs_fused=profile.get('macs_fused'),
            file_bytes=profile.get('file_bytes'),
            peak_memory_bytes=memory.get('peak'),
            import_memory_bytes=memory.get('imports'),
            startup_seconds=profile.get('startup_seconds'),
        )
        for size, timings in state.timings.items():
            if timings and size == 1:
                summary = summarize(timings)
                row.update(
                    latency_ms=summary.median,
                    latency_p10_ms=summary.p10,
                    latency_p95_ms=summary.p95,
                    preprocess_ms=summary.pre,
                    network_ms=summary.network,
                    postprocess_ms=summary.post,
                    rounds=len(timings),
                )
            if timings and f'throughput_{size}' in row:
                row[f'throughput_{size}'] = 1e3 * size / summarize(timings).median
        evaluation = self.evaluations.get(item.name)
        if evaluation:
            row.update({key: evaluation.stats[key] for key in evaluation.stats if key in row})
            row['AR'] = evaluation.stats['AR100']
            row['AP_low'], row['AP_high'] = self.intervals.get(item.name, (None, None))
            row.update({f'AP:{k}': v for k, v in evaluation.per_class.items()})
        training = self.training.get(item.name)
        if training:
            row.update(
                train_iterations=training['iterations'], train_batch_size=training['batch_size']
            )
        row['reason'] = self._reason(item)
        return row

    def _reason(self, item: Item) -> str | None:
        state = self.states[item.name]
        reasons = [state.error] if state.error else []
        if self.split and not item.has_weights and not state.error:
            reasons.append('no AP: no checkpoint was given, the weights are random')
        reasons += [f'batch of {size}: {text}' for size, text in sorted(state.batch_errors.items())]
        return '; '.join(reasons) or None

    def write(self, final: bool = False) -> dict:
        """Writes what is known so far; pictures and the page only at the end.

        Returns:
            The content of ``compare.json``.
        """
        out, settings = self.settings.out, self.settings
        rows = self.rows()
        columns = columns_of(list(settings.batches), self.classes)
        report = dict(
            format=FORMAT,
            created=_now(),
            complete=final,
            command=self.command,
            hardware=hardware(settings.device, settings.num_threads),
            software=software(),
            settings=settings.as_dict(),
            columns={column.key: column.meaning for column in columns},
            rows=rows,
            differences=self.differences,
            notes=notes(self, rows),
            unreadable_images=list(self.unreadable.values()),
            training=self.training,
            precision_recall={k: v.precision_recall() for k, v in self.evaluations.items()},
            timings={
                name: {str(size): values for size, values in state.timings.items()}
                for name, state in self.states.items()
            },
        )
        if final:
            report['disagreements'] = self._disagreements()
        write_text(out / 'compare.json', json.dumps(report, indent=1, ensure_ascii=False))
        write_text(out / 'compare.csv', to_csv(columns, rows))
        if final:
            write_text(out / 'compare.md', to_report(report, to_markdown(columns, rows)))
            write_report(report, columns, self.split, self.confident(), out, settings.score_thr)
        return report

    def confident(self) -> dict[str, dict]:
        """By name of the detector and id of the image, detections that are worth drawing."""
        results = {}
        for item in self.items:
            if item.name in self.evaluations:
                found = json.loads(self._detections_file(item).read_text())
                results[item.name] = by_image(found, self.settings.score_thr)
        return results

    def _disagreements(self) -> list[dict]:
        if len(self.evaluations) < 2:
            return []
        ids = [image['id'] for image in self.split.content['images']]
        keys = ('image_id', 'number', 'a', 'b')
        return [dict(zip(keys, entry)) for entry in worst_disagreements(self.confident(), ids)]


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


def _weights_of(item: Item) -> str:
    if item.kind != 'pytorch':
        return 'exported'
    return 'checkpoint' if item.checkpoint else 'random'


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec='seconds')
