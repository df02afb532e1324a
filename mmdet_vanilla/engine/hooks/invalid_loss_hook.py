"""Stops a training whose loss is no number any more, while what led to it can still be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import mmcv
import torch
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmdet_vanilla.utils.checkpoint import write_checkpoint
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.visualization import augment_batch, draw_augmented_batch
from mmdet_vanilla.visualization.augmented_batch import kept_random_state

from .detector_of import detector_of

SKIPPED = 'skipped_steps'


class InvalidLossError(UserError, ArithmeticError):
    """A loss is NaN or infinite."""


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops at the step whose loss or gradient norm is NaN or infinite.

    It costs no transfer from the device: mmengine has fetched the losses for the log. The batch
    goes to ``WORK_DIR/invalid_loss/iter_N.pth`` (``read_checkpoint`` reads it: images as loaded,
    boxes, labels, paths, all losses) and, as the model saw it, to ``iter_N.png``. Nothing is saved
    of the model, which the step has spoilt: resuming from the last checkpoint comes to the same
    step again.

    In mixed precision a step with invalid gradients is left out by the loss scaler; ``max_skipped``
    of them may pass, and the statistics of normalisation layers are set back.

    Args:
        max_skipped: Steps of the training that may be left out under ``AmpOptimWrapper``, >= 0.
            Without it any invalid loss stops.

    Raises:
        InvalidLossError: At the step, after the batch was saved.
        ValueError: If ``max_skipped`` is negative.
    """

    # After RuntimeInfoHook, which fetches the losses, before EMAHook, which would spread them.
    priority = 'HIGH'

    def __init__(self, max_skipped: int = 0) -> None:
        if not (isinstance(max_skipped, int) and max_skipped >= 0):
            raise ValueError(f'max_skipped of InvalidLossHook: expected >= 0, got {max_skipped!r}.')
        self.max_skipped = max_skipped
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Copies the statistics, where the step may be left out."""
        if self.max_skipped and _scales(runner):
            buffers = detector_of(runner).buffers()
            self._statistics = [(buffer, buffer.clone()) for buffer in buffers]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Mapping | None = None,
    ) -> None:
        """Checks the losses of the step."""
        values = {name: _logged(runner, name) for name in outputs or {} if 'loss' in name}
        scales = _scales(runner)
        if not scales:  # otherwise infinite gradients are an everyday matter
            values['grad_norm'] = _logged(runner, 'grad_norm')
        invalid = {k: v for k, v in values.items() if v is not None and not math.isfinite(v)}
        if not invalid:
            return
        what = ', '.join(f'{name} is {value}' for name, value in list(invalid.items())[:6])
        what += f' and {len(invalid) - 6} more' if len(invalid) > 6 else ''
        where = f'iteration {runner.iter + 1} (epoch {runner.epoch + 1})'
        skipped = runner.message_hub.runtime_info.get(SKIPPED, 0)
        if scales and skipped < self.max_skipped:
            runner.message_hub.update_info(SKIPPED, skipped + 1)
            for buffer, copy in self._statistics:
                buffer.copy_(copy)
            runner.logger.warning(
                f'{where}: {what}; the step is left out, {skipped + 1} of {self.max_skipped}.'
            )
            return
        path, images = self._save(runner, data_batch, values)
        raise InvalidLossError(
            f'{where}: {what}. The batch ({images}) is in {path}. The last checkpoint is not '
            'affected. Look at the batch, check the data (docs/data.md), and resume with a lower '
            'learning rate or, under --amp, without it or with '
            'default_hooks.invalid_loss.max_skipped=10.'
        )

    def _save(self, runner: Runner, data_batch: Mapping, values: dict) -> tuple[Path, str]:
        samples = data_batch['data_samples']
        content = dict(
            iteration=runner.iter + 1,
            epoch=runner.epoch + 1,
            losses=values,
            inputs=list(data_batch['inputs']),
            samples=[_plain(sample) for sample in samples],
        )
        alone = get_world_size() == 1
        name = f'iter_{runner.iter + 1}' + ('' if alone else f'_rank_{get_rank()}')
        path = Path(runner.work_dir) / 'invalid_loss' / f'{name}.pth'
        write_checkpoint(content, path)
        if alone:  # batch augmentations may need all processes
            try:
                _draw(runner, data_batch, path.with_suffix('.png'))
            except Exception as error:  # the data may be what is wrong
                runner.logger.warning(
                    f'The batch could not be drawn: {type(error).__name__}: {error}'
                )
        return path, _names(samples)


def _draw(runner: Runner, data_batch: Mapping, path: Path) -> None:
    preprocessor = detector_of(runner).data_preprocessor
    with kept_random_state():
        if hasattr(runner.train_loop, 'seed_step'):  # the same random numbers as in the step
            runner.train_loop.seed_step()
        batch = augment_batch(data_batch, preprocessor)
    meta = runner.train_dataloader.dataset.metainfo
    picture = draw_augmented_batch(batch, preprocessor, meta)
    mmcv.imwrite(mmcv.rgb2bgr(picture), str(path))


def _scales(runner: Runner) -> bool:
    """Whether a loss scaler leaves out steps with invalid gradients."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def _logged(runner: Runner, name: str) -> float | None:
    scalars = runner.message_hub.log_scalars
    key = f'train/{name}'
    return float(scalars[key].current()) if key in scalars else None


def _plain(sample: DetDataSample) -> dict:
    """A data sample as tensors and plain containers, which can be read without running code."""
    boxes = sample.gt_instances.bboxes
    return dict(
        boxes=torch.as_tensor(getattr(boxes, 'tensor', boxes)),
        labels=sample.gt_instances.labels,
        **{key: sample.get(key) for key in ('img_path', 'img_id', 'img_shape', 'ori_shape')},
    )


def _names(samples: Sequence[DetDataSample]) -> str:
    return ', '.join(str(sample.get('img_path') or sample.get('img_id')) for sample in samples)
