"""Switches batch augmentations on and off by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from mmdet.registry import HOOKS, MODELS
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmdet_vanilla.utils.errors import UserError

from .detector_of import detector_of


class AugmentationError(UserError, ValueError):
    """A batch augmentation that cannot be carried out."""


@HOOKS.register_module()
class BatchAugmentScheduleHook(Hook):
    """Gives every batch augmentation the epochs in which it is active.

    The active ones become the data preprocessor's ``batch_augments``, in the order of the schedule.
    They follow from the epoch alone, so a resumed run goes on with the right ones.
    (``PipelineSwitchHook`` of mmdet does the same for the transforms of single images.)

    Args:
        schedule: By a name of your own, ``augment``: config of the augmentation, and optionally
            ``begin``: first epoch, 0-based, and ``end``: epoch before which it stops; negative
            counts from the end of the training.

    Raises:
        AugmentationError: Before training, for epochs that are none of the training's, an
            augmentation that mixes images with a batch of one image, a preprocessor without batch
            augmentations, or a loop without epochs.

    Example:
        >>> hook = dict(
        ...     type='BatchAugmentScheduleHook',
        ...     schedule=dict(
        ...         mixup=dict(augment=dict(type='BatchMixUp', prob=0.5), begin=4, end=36),
        ...         multi_scale=dict(augment=dict(type='BatchRandomResize'), end=-2),
        ...     ),
        ... )
    """

    def __init__(self, schedule: Mapping[str, Mapping]) -> None:
        self.schedule = {name: dict(entry) for name, entry in schedule.items()}
        self.augments = {}
        for name, entry in self.schedule.items():
            unknown = set(entry) - {'augment', 'begin', 'end'}
            if unknown or 'augment' not in entry:
                raise AugmentationError(
                    f'schedule.{name}: expected augment and optionally begin and end, got '
                    f'{", ".join(entry)}.'
                )
            self.augments[name] = MODELS.build(entry['augment'])
        self.active = None

    def before_train(self, runner: Runner) -> None:
        """Checks that the schedule can be carried out."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise AugmentationError(
                'BatchAugmentScheduleHook counts epochs: use an EpochBasedTrainLoop, or list the '
                'augmentations in model.data_preprocessor.batch_augments.'
            )
        preprocessor = detector_of(runner).data_preprocessor
        if not hasattr(preprocessor, 'batch_augments'):
            raise AugmentationError(
                f'{type(preprocessor).__name__} applies no batch augmentations: use '
                'DetDataPreprocessor, or drop BatchAugmentScheduleHook.'
            )
        if preprocessor.batch_augments:
            raise AugmentationError(
                'model.data_preprocessor.batch_augments and BatchAugmentScheduleHook are both '
                'set: put those augmentations into the schedule.'
            )
        max_epochs = runner.max_epochs
        for name in self.schedule:
            begin, end = self._epochs(name, max_epochs)
            if not 0 <= begin < end <= max_epochs:
                raise AugmentationError(
                    f'schedule.{name} is active from epoch {begin} to {end}, which is no part of '
                    f'a training of {max_epochs} epochs: adapt begin and end to max_epochs.'
                )
        dataloader = runner.train_dataloader
        batch_size = dataloader.batch_size or dataloader.batch_sampler.batch_size
        images = min(batch_size, len(dataloader.dataset))
        for name, augment in self.augments.items():
            least = getattr(augment, 'min_batch_size', 1)
            last = len(dataloader.sampler) % batch_size
            if images >= least and 0 < last < least and not _drops_last(dataloader):
                raise AugmentationError(
                    f'schedule.{name} mixes images of a batch, at least {least}, but the last '
                    f'batch of an epoch has {last}: set train_dataloader.drop_last=True (or '
                    'batch_sampler.drop_last=True), or choose another batch_size.'
                )
            if images < least:
                raise AugmentationError(
                    f'schedule.{name} mixes images of a batch, at least {least}, but a batch has '
                    f'{images} (batch_size={batch_size}, {len(dataloader.dataset)} training '
                    f'images): raise train_dataloader.batch_size or drop {name}.'
                )

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the augmentations of this epoch."""
        active = [name for name in self.schedule if self._is_active(name, runner)]
        if active == self.active:
            return
        self.active = active
        runner.logger.info(f'Batch augmentations from now on: {", ".join(active) or "none"}.')
        preprocessor = detector_of(runner).data_preprocessor
        preprocessor.batch_augments = [self.augments[name] for name in active] or None

    def _epochs(self, name: str, max_epochs: int) -> tuple[int, int]:
        begin, end = self.schedule[name].get('begin', 0), self.schedule[name].get('end')
        if end is None:
            end = max_epochs
        return tuple(epoch + max_epochs if epoch < 0 else epoch for epoch in (begin, end))

    def _is_active(self, name: str, runner: Runner) -> bool:
        begin, end = self._epochs(name, runner.max_epochs)
        return begin <= runner.epoch < end


def _drops_last(dataloader: DataLoader) -> bool:
    batch_sampler = dataloader.batch_sampler
    return dataloader.drop_last or getattr(batch_sampler, 'drop_last', False)
