"""Leaves curves, pictures, metrics and what is needed to repeat a training in one folder."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mmcv
import mmdet
import mmengine
import numpy as np
import torch
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.utils.dl_utils import collect_env

from mmdet_vanilla.utils.host_memory import host_memory
from mmdet_vanilla.version import __version__
from mmdet_vanilla.visualization import (
    augment_batch,
    contact_sheet,
    draw_augmented_batch,
    ground_truth,
    plot_curves,
    read_scalars,
    split_scalars,
)

from .detector_of import detector_of

_SECONDS = 'seconds_of_training'


def command(argv: Sequence[str]) -> str:
    """The command that repeats a run.

    Args:
        argv: ``sys.argv``.

    Returns:
        ``python``, the script relative to the current folder, and its arguments, quoted for a
        shell; or a comment where Python was not started with a script.
    """
    if not argv or not os.path.isfile(argv[0]):
        return '# not started from a script'
    script = os.path.relpath(argv[0])
    processes = get_world_size()
    comment = f'# in each of {processes} processes:\n' if processes > 1 else ''
    return comment + shlex.join(['python', script, *argv[1:]])


def environment() -> dict:
    """mmengine's description of machine and libraries, with the versions of what we stand on."""
    versions = dict(
        mmdet_vanilla=__version__,
        mmdet=mmdet.__version__,
        mmcv=mmcv.__version__,
        mmengine=mmengine.__version__,
        torch=torch.__version__,
        numpy=np.__version__,
    )
    return dict(versions=versions, environment=collect_env())


def _augmentation(runner: Runner) -> list:
    """What augments the training data, to see whether another hook has exchanged any of it."""
    parts = list(getattr(detector_of(runner).data_preprocessor, 'batch_augments', None) or ())
    datasets = [runner.train_dataloader.dataset]
    for dataset in datasets:
        pipeline = getattr(dataset, 'pipeline', None)
        parts += [pipeline, getattr(dataset, '_skip_type_keys', None)]
        # What RepeatDataset, MultiImageMixDataset, ... and ConcatDataset wrap.
        datasets += [dataset.dataset] if hasattr(dataset, 'dataset') else []
        datasets += getattr(dataset, 'datasets', ())
    return parts


def _file_name(path: str | None) -> str | None:
    return path and os.path.basename(path)


def _write_json(path: Path, content: Mapping) -> None:
    def finite(value):
        if isinstance(value, Mapping):
            return {key: finite(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    path.write_text(json.dumps(finite(content), indent=2, default=str) + '\n', encoding='utf-8')


def _write_picture(path: Path, picture: np.ndarray) -> None:
    mmcv.imwrite(mmcv.rgb2bgr(picture), str(path))


@HOOKS.register_module()
class ResultsHook(Hook):
    """Writes the folder ``WORK_DIR/results``.

    ========================  ==================================================================
    ``config.py``             the whole config; this and the next two are there from the start
    ``environment.json``      machine and versions
    ``command.txt``           the command that repeats the run, from the folder it was started in
    ``batches/*.png``         training batches after all augmentation, at the first iteration
                              and when the augmentation has changed
    ``curves.png``            losses, validation metrics and learning rate
    ``metrics.json``          last and best metrics, iterations, seconds, memory, checkpoints
    ``predictions.png``       ground truth beside predictions of the last validation, thus of
                              the averaged weights where there is an EMAHook
    ``test_predictions.png``  the same after testing
    ========================  ==================================================================

    The training computes what it would compute without the hook, and goes on where a file cannot
    be written; a warning says which and why. Curves and metrics are read from what
    ``LocalVisBackend`` writes, over all runs of the work dir that were resumed.

    Args:
        num_batches: Most batches to draw, >= 0.
        num_images: Most images to draw of a batch and of the predictions, >= 0.
        score_thr: Least score of a drawn prediction, 0..1.

    Raises:
        ValueError: If an argument is out of range.
    """

    # After all hooks that log, save or exchange an augmentation.
    priority = 'LOWEST'

    def __init__(self, num_batches: int = 4, num_images: int = 8, score_thr: float = 0.3) -> None:
        for name, value in (('num_batches', num_batches), ('num_images', num_images)):
            if not (isinstance(value, int) and value >= 0):
                raise ValueError(f'{name} of ResultsHook: expected an integer >= 0, got {value!r}.')
        if not 0 <= score_thr <= 1:
            raise ValueError(f'score_thr of ResultsHook: expected 0..1, got {score_thr!r}.')
        self.num_batches = num_batches
        self.num_images = num_images
        self.score_thr = score_thr
        self._start = 0.0
        self._augmentation = None
        self._num_drawn = 0
        self._predicted: list[DetDataSample] = []
        self._warned: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Removes the results of an earlier training, and writes what describes this one."""
        before = runner.message_hub.get_info(_SECONDS, 0) if runner._resume else 0
        self._start = time.time() - before
        if not is_main_process():
            return
        if not runner._resume:
            self._attempt(runner, 'earlier results were not removed', self._remove_earlier, runner)
        self._write(runner, 'config.py', lambda path: runner.cfg.dump(str(path)))
        self._write(runner, 'environment.json', lambda path: _write_json(path, environment()))
        self._write(
            runner,
            'command.txt',
            lambda path: path.write_text(command(sys.argv) + '\n', encoding='utf-8'),
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Draws the batch if its augmentation is new."""
        if self._num_drawn >= self.num_batches or not self.num_images:
            return
        augmentation, previous = _augmentation(runner), self._augmentation
        if (
            previous is not None
            and len(previous) == len(augmentation)
            and all(new is old for new, old in zip(augmentation, previous))
        ):
            return
        self._augmentation = augmentation
        self._num_drawn += 1
        preprocessor = detector_of(runner).data_preprocessor

        def draw(path: Path) -> None:
            batch = augment_batch(data_batch, preprocessor)
            if is_main_process():
                meta = runner.train_dataloader.dataset.metainfo
                picture = draw_augmented_batch(batch, preprocessor, meta, self.num_images)
                _write_picture(path, picture)

        name = f'batches/epoch_{runner.epoch + 1}_iter_{runner.iter + 1}.png'
        self._write(runner, name, draw)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Keeps the time in what checkpoints contain, so that a resumed run adds to it."""
        runner.message_hub.update_info(_SECONDS, time.time() - self._start)

    def before_val_epoch(self, runner: Runner) -> None:
        """Forgets the predictions of an earlier validation."""
        self._predicted = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Forgets the predictions of an earlier evaluation."""
        self._predicted = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Keeps the predictions of the first images."""
        missing = self.num_images - len(self._predicted)
        if missing > 0 and is_main_process():
            what = 'predictions will not be drawn'
            self._attempt(runner, what, self._keep, (outputs or ())[:missing])

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Keeps the predictions of the first images."""
        self.after_val_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner: Runner) -> None:
        """Writes curves, metrics and predictions."""
        if not is_main_process():
            return
        scalars = []

        def read() -> None:
            since = '' if runner._resume else runner.timestamp
            scalars.extend(read_scalars(runner.work_dir, since))

        self._attempt(runner, 'there will be no curves, and no metrics of validations', read)
        if scalars:
            self._write(runner, 'curves.png', lambda path: plot_curves(scalars, path))
        self._write(
            runner, 'metrics.json', lambda path: _write_json(path, self._metrics(runner, scalars))
        )
        if self._predicted:
            dataset = runner.val_dataloader.dataset
            self._write(runner, 'predictions.png', lambda path: self._draw(dataset, path))
        runner.logger.info(f'Curves, metrics and pictures are in {self._folder(runner)}.')

    def after_test(self, runner: Runner) -> None:
        """Writes the predictions."""
        if is_main_process() and self._predicted:
            dataset = runner.test_dataloader.dataset
            self._write(runner, 'test_predictions.png', lambda path: self._draw(dataset, path))

    def _folder(self, runner: Runner) -> Path:
        return Path(runner.work_dir) / 'results'

    def _attempt(self, runner: Runner, failure: str, function: Callable, *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # whatever it is: a picture is not worth a training
            message = f'{failure}: {type(error).__name__}: {error}'
            if message not in self._warned:
                self._warned.add(message)
                runner.logger.warning(message)

    def _write(self, runner: Runner, name: str, write: Callable[[Path], object]) -> None:
        path = self._folder(runner) / name

        def make_folder_and_write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)

        self._attempt(runner, f'{path} was not written', make_folder_and_write)

    def _remove_earlier(self, runner: Runner) -> None:
        folder = self._folder(runner)
        names = ('curves.png', 'metrics.json', 'predictions.png')
        for path in [*folder.glob('batches/*.png'), *(folder / name for name in names)]:
            path.unlink(missing_ok=True)

    def _keep(self, outputs: Sequence[DetDataSample]) -> None:
        for sample in outputs:
            instances = sample.pred_instances
            # Without masks, which are as large as images.
            instances = InstanceData(
                bboxes=instances.bboxes, labels=instances.labels, scores=instances.scores
            )
            self._predicted.append(
                DetDataSample(
                    metainfo=dict(img_path=sample.img_path), pred_instances=instances.cpu()
                )
            )

    def _draw(self, dataset: BaseDataset, path: Path) -> None:
        truth = ground_truth(dataset, (sample.img_path for sample in self._predicted))
        images = []
        for sample in self._predicted:
            sample.gt_instances = truth[sample.img_path]
            images.append(
                mmcv.imread(
                    sample.img_path,
                    channel_order='rgb',
                    backend_args=getattr(dataset, 'backend_args', None),
                )
            )
        _write_picture(
            path, contact_sheet(images, self._predicted, dataset.metainfo, self.score_thr)
        )

    def _metrics(self, runner: Runner, scalars: Sequence[dict]) -> dict:
        train, val = split_scalars(scalars)
        unit = 'epoch' if any('epoch' in entry for entry in train) else 'iteration'
        val = [{unit: entry.pop('step'), **entry} for entry in val]
        info = runner.message_hub.runtime_info
        name, rule = self._criterion(runner, val)
        best = [entry for entry in val if name in entry]
        # With several criteria mmengine adds their names.
        best_checkpoint = info.get('best_ckpt') or info.get(f'best_ckpt_{name}')
        device_memory = [entry['memory'] for entry in train if 'memory' in entry]
        memory = host_memory()
        return dict(
            last=val[-1] if val else None,
            best=rule(best, key=lambda entry: entry[name]) if best else None,
            best_by=name,
            epochs=runner.epoch,
            iterations=runner.iter,
            seconds=round(time.time() - self._start, 1),
            peak_memory_mib=dict(
                host=memory and round(memory.peak / 2**20),
                device=max(device_memory, default=None),
            ),
            last_checkpoint=_file_name(info.get('last_ckpt')),
            best_checkpoint=_file_name(best_checkpoint),
        )

    @staticmethod
    def _criterion(runner: Runner, val: Sequence[dict]) -> tuple[str | None, Callable]:
        """By what the best checkpoint is chosen, and whether most or least of it is best."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.save_best:
                if hook.key_indicators[0] != 'auto':
                    return hook.key_indicators[0], max if hook.rules[0] == 'greater' else min
        return next((name for entry in val for name in list(entry)[1:]), None), max
