"""Makes a resumed training compute what it would have computed without the interruption."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.dist import broadcast_object_list, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmdet_vanilla.utils.weights import meta_of

from ..loops import ResumableEpochLoop, ResumableIterLoop, resumable
from .detector_of import detector_of

VALIDATED = 'validated_iter'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Stores in checkpoints where the training is, and begins there.

    mmengine stores model, optimizer, schedules and log, and resumes at the start of an epoch with
    other random numbers. This adds:

    - the place inside an epoch, so that checkpoints by iteration (``CheckpointHook`` with
      ``by_epoch=False``) can be resumed in a loop over epochs; what was trained on is not loaded;
    - random numbers that follow from the seed and the iteration, for data and training steps
      (:class:`ResumableEpochLoop`, :class:`ResumableIterLoop`); and the seed of the data's order,
      also where the config sets none;
    - a validation that an interruption has cost;
    - gradients that were being accumulated, in one process.

    Loops and data sets that it does not know train and resume as mmengine lets them, with a
    warning. Exactness ends where a data set or a transform keeps a state of its own, such as
    mmdet's cached mosaic, and where an operation of the device is not deterministic.
    """

    # After every hook that prepares a training: a missed validation needs all of them.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._resumed: dict | None = None
        self._gradients: dict | None = None

    def before_run(self, runner: Runner) -> None:
        """Exchanges the training loop."""
        if runner._train_loop is not None and not isinstance(runner._train_loop, dict):
            runner._train_loop = resumable(runner._train_loop)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes what it has stored."""
        if runner._resume:
            self._resumed = meta_of(checkpoint).get('exact_resume')
            self._gradients = checkpoint.pop('gradients', None)

    def before_train(self, runner: Runner) -> None:
        """Goes to the place where the checkpoint was written."""
        loop = runner.train_loop
        if not isinstance(loop, (ResumableEpochLoop, ResumableIterLoop)):
            return
        if self._resumed is None:
            seed = [runner.seed or 0]
            broadcast_object_list(seed)
            loop.start(seed[0])
            return
        batch = self._resumed['batch']
        if batch and self._resumed['batches'] != len(loop.dataloader):
            runner.logger.warning(
                f'An epoch had {self._resumed["batches"]} batches and has {len(loop.dataloader)} '
                'now: the one that was interrupted begins anew.'
            )
            batch = 0
        loop.start(self._resumed['seed'], self._resumed['order_seed'], batch)
        if self._gradients is not None:
            for name, parameter in detector_of(runner).named_parameters():
                if name in self._gradients:
                    parameter.grad = self._gradients[name].to(parameter)
        validated = runner.message_hub.runtime_info.get(VALIDATED)
        if runner._val_loop is not None and validated != loop.iter and loop.missed_validation():
            runner.logger.info('The validation that was interrupted is made up for.')
            runner.val_loop.run()
        self._resumed = self._gradients = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stores the place."""
        loop = runner.train_loop
        if not isinstance(loop, (ResumableEpochLoop, ResumableIterLoop)):
            return
        # Where a checkpoint is written again after a validation, FlexibleRunner counts once more.
        checkpoint['meta'].update(epoch=loop.done['epoch'], iter=loop.done['iter'])
        checkpoint['meta']['exact_resume'] = dict(
            batch=loop.done['batch'],
            batches=len(loop.dataloader),
            seed=loop.seed,
            order_seed=loop.order_seed,
        )
        optim_wrapper = runner.optim_wrapper
        if 'optimizer' in checkpoint and get_world_size() == 1 and _accumulates(optim_wrapper):
            checkpoint['gradients'] = {
                name: parameter.grad.cpu()
                for name, parameter in detector_of(runner).named_parameters()
                if parameter.grad is not None
            }


def _accumulates(optim_wrapper: OptimWrapper) -> bool:
    """Whether gradients are kept for the next step."""
    steps = getattr(optim_wrapper, '_accumulative_counts', 1)
    return steps > 1 and optim_wrapper._inner_count % steps != 0
