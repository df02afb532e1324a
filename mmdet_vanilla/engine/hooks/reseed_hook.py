"""Makes an epoch's random numbers depend on the epoch alone."""

from __future__ import annotations

from functools import partial

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed


@HOOKS.register_module()
class ReseedHook(Hook):
    """Seeds Python, numpy and torch anew at the beginning of every epoch.

    mmengine's checkpoints hold no random state. With this, a training that was interrupted and
    resumed at the beginning of an epoch draws what it would have drawn, and the workers of the data
    loader, which start anew with every epoch, do not repeat themselves.

    Args:
        seed: Of the training.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Checks that workers start anew."""
        loader = runner.train_dataloader
        if getattr(loader, 'persistent_workers', False):
            raise ValueError('ReseedHook needs train_dataloader.persistent_workers=False.')

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds."""
        # Far apart: workers add their number.
        seed = (self.seed + 1_000_003 * (runner.epoch + 1)) % 2**31
        set_random_seed(seed + get_rank())
        initialise = runner.train_dataloader.worker_init_fn
        if initialise is not None:
            runner.train_dataloader.worker_init_fn = partial(initialise, seed=seed)
