"""Training loops that can begin at any iteration and then compute what they would have anyway."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from mmdet_vanilla.datasets.samplers import SeededBatchSampler
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.seeding import seed_all

from .worker_deaths import WORKER_ERRORS, deferred_worker_deaths, is_worker_death

_MOST_DEATHS = 3


class WorkerDiedError(UserError, RuntimeError):
    """Workers of the data loader die again and again."""


class _Resumable:
    """What both loops share.

    Random numbers are derived from the seed, the rank, the iteration and, for a sample, its place
    in the batch: neither the number of workers nor an interruption changes them.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, *args, **kwargs) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self._sampler = SeededBatchSampler.install(self.dataloader)
        if self._sampler is None:
            raise ValueError(
                f'{type(self).__name__} needs a data set with indices and a batch sampler, got '
                f'{type(self.dataloader.dataset).__name__}: use the loop of mmengine.'
            )
        self.start(runner.seed or 0)

    def start(self, seed: int, order_seed: int | None = None, batch: int = 0) -> None:
        """Sets where the training begins; epoch and iteration are those of the loop.

        Args:
            seed: What all random numbers of the training follow from, the same in every process.
            order_seed: What the order of the data follows from; ``None`` keeps the sampler's own.
            batch: Batches of the epoch that were trained on before.
        """
        self.seed = seed
        self._skip = batch
        self._sampler.restore_order(order_seed)
        self.done = dict(epoch=self._epoch, iter=self._iter, batch=batch)

    @property
    def order_seed(self) -> int | None:
        """What the order of the data follows from."""
        return self._sampler.order_seed

    def _read(self, skip: int, endless: bool = False) -> Iterator[Any]:
        """Loads batches; where a worker dies, others load what it had not delivered."""
        self._sampler.begin((self.seed, get_rank()), self._iter, skip, endless)
        deaths = 0
        iterator = None
        while True:
            try:
                # In here, since workers that outlive an epoch are asked whether they are ready.
                iterator = iterator or iter(self.dataloader)
                batch = next(iterator, None)
                if batch is None:
                    return
                self._sampler.delivered()
                deaths = 0
                with deferred_worker_deaths():
                    yield batch
            except WORKER_ERRORS as error:
                if not (self.dataloader.num_workers and is_worker_death(error)):
                    raise
                deaths += 1
                if deaths == _MOST_DEATHS:
                    raise WorkerDiedError(
                        f'workers of the training data died {deaths} times in a row at iteration '
                        f'{self._iter}: {error} Most often memory has run out: look for "oom" in '
                        'the log of the system, lower train_dataloader.num_workers or batch_size, '
                        'or, in a container, give it more of /dev/shm. Then go on with --resume.'
                    ) from None
                print_log(
                    f'{str(error) or "A worker has gone."} Its batches are loaded again by others.',
                    logger='current',
                    level=logging.WARNING,
                )
                iterator = None  # ends the other workers
                for loop in (self, self.runner._val_loop):
                    if isinstance(loop, BaseLoop):
                        loop.dataloader._iterator = None

    def seed_step(self) -> None:
        """Seeds the random numbers of this iteration's training step."""
        seed_all(self.seed, get_rank(), self._iter)


@LOOPS.register_module()
class ResumableEpochLoop(_Resumable, EpochBasedTrainLoop):
    """mmengine's loop over epochs, which can also begin inside one.

    ``ExactResumeHook`` puts it in the place of ``EpochBasedTrainLoop``.

    Attributes:
        done: ``epoch``, ``iter`` and ``batch`` of the epoch from which a checkpoint that is written
            now has to be continued.
    """

    def run_epoch(self) -> None:
        """Trains for one epoch, or for the rest of it."""
        skip, self._skip = self._skip, 0
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        with closing(self._read(skip)) as batches:
            for idx, data_batch in enumerate(batches, skip):
                self.done = dict(epoch=self._epoch, iter=self._iter + 1, batch=idx + 1)
                self.seed_step()
                self.run_iter(idx, data_batch)
        self.done = dict(epoch=self._epoch + 1, iter=self._iter, batch=0)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def missed_validation(self) -> bool:
        """Whether a validation belongs right before where the loop begins."""
        self._decide_current_val_interval()
        epoch = self._epoch
        return (
            self._skip == 0
            and epoch >= max(self.val_begin, 1)
            and (epoch % self.val_interval == 0 or epoch == self._max_epochs)
        )


@LOOPS.register_module()
class ResumableIterLoop(_Resumable, IterBasedTrainLoop):
    """mmengine's loop over iterations, which goes on in the data without loading what it skips.

    ``ExactResumeHook`` puts it in the place of ``IterBasedTrainLoop``.

    Attributes:
        done: See :class:`ResumableEpochLoop`; ``batch`` is 0, since there are no epochs.
    """

    def start(self, seed: int, order_seed: int | None = None, batch: int = 0) -> None:
        """See :class:`ResumableEpochLoop`; batches are counted from the begin of the training."""
        super().start(seed, order_seed)
        self.dataloader_iterator = _Position(self)

    def run(self) -> Any:
        """Launches the training."""
        with closing(self.dataloader_iterator):
            return super().run()

    def run_iter(self, data_batch: Any) -> None:
        """Trains on one batch."""
        self.done = dict(epoch=self._epoch, iter=self._iter + 1, batch=0)
        self.seed_step()
        super().run_iter(data_batch)

    def missed_validation(self) -> bool:
        """Whether a validation belongs right before where the loop begins."""
        self._decide_current_val_interval()
        done = self._iter
        return done >= max(self.val_begin, 1) and (
            done % self.val_interval == 0 or done == self._max_iters
        )


class _Position:
    """Stands for mmengine's endless iterator, which loads what a resumed training has to skip."""

    def __init__(self, loop: ResumableIterLoop) -> None:
        self._loop = loop
        self._batches: Iterator[Any] | None = None
        self._to_skip = 0

    def skip_iter(self, num_iters: int) -> None:
        """Called by OneDL's mmengine; there is nothing left to do."""

    def __next__(self) -> Any:
        if self._batches is None:
            done = self._loop.iter
            self._batches = self._loop._read(done, endless=True)
            # OpenMMLab's mmengine asks for every batch that was trained on before.
            self._to_skip = 0 if hasattr(_InfiniteDataloaderIterator, 'skip_iter') else done
        if self._to_skip:
            self._to_skip -= 1
            return None
        return next(self._batches)

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()


def resumable(loop: BaseLoop) -> BaseLoop:
    """A loop of this module in the place of one of mmengine.

    Args:
        loop: The training loop of a runner.

    Returns:
        A new loop at the same epoch and iteration; ``loop`` itself, with a warning, if it is of
        another kind or its data have no indices.
    """
    kinds = {
        EpochBasedTrainLoop: (ResumableEpochLoop, 'max_epochs'),
        IterBasedTrainLoop: (ResumableIterLoop, 'max_iters'),
    }
    if isinstance(loop, _Resumable):
        return loop
    kind, length = kinds.get(type(loop), (None, None))
    if kind is None or SeededBatchSampler.install(loop.dataloader) is None:
        print_log(
            f'{type(loop).__name__} on {type(loop.dataloader.dataset).__name__} resumes as '
            'mmengine does, with other random numbers than without an interruption.',
            logger='current',
            level=logging.WARNING,
        )
        return loop
    changes = list(zip(loop.dynamic_milestones[1:], loop.dynamic_intervals[1:]))
    new = kind(
        loop.runner,
        loop.dataloader,
        val_begin=loop.val_begin,
        val_interval=loop.dynamic_intervals[0],
        dynamic_intervals=changes or None,
        **{length: getattr(loop, length)},
    )
    new._epoch, new._iter = loop.epoch, loop.iter
    return new
