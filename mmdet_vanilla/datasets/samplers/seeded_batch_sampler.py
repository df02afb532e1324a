"""Batches whose random numbers depend on their place in the training alone."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset, Sampler

from mmdet_vanilla.utils.seeding import seed_all


@dataclass(frozen=True)
class SeededBatch:
    """Indices of a batch, which seed all random numbers before each of them is handed out.

    What loads the batch iterates over it, in whichever process, so that a sample's augmentation is
    the same for any number of workers and after any interruption.

    Attributes:
        indices: Of the samples in the data set.
        entropy: What the seeds are derived from: seed, rank, iteration.
    """

    indices: Sequence[int]
    entropy: tuple[int, ...]

    def __iter__(self) -> Iterator[int]:
        for place, index in enumerate(self.indices, start=1):  # 0 is that of the training step
            seed_all(*self.entropy, place, devices=False)
            yield index

    def __len__(self) -> int:
        return len(self.indices)


class SeededBatchSampler(Sampler):
    """Hands out the batches of another batch sampler as :class:`SeededBatch`, from any place on.

    :meth:`begin` decides what the next iterator yields; without it, the other one's batches as they
    are. An iterator that is made before all batches were delivered goes on with the first that was
    not.

    Args:
        batch_sampler: What chooses the batches.
    """

    def __init__(self, batch_sampler: Sampler) -> None:
        self.batch_sampler = batch_sampler
        self._rest: Iterator[SeededBatch] | None = None
        self._undelivered: deque[SeededBatch] = deque()

    @classmethod
    def install(cls, loader: DataLoader) -> SeededBatchSampler | None:
        """Puts itself in front of the batch sampler of a data loader.

        Args:
            loader: The data loader, in which nothing is being loaded.

        Returns:
            The batch sampler of the loader from now on; ``None``, and nothing is done, if it draws
            no batches by index.
        """
        inner = loader.batch_sampler
        if isinstance(inner, cls):
            return inner
        if inner is None or isinstance(loader.dataset, IterableDataset):
            return None
        sampler = cls(inner)
        # Forbidden by torch, since an iterator keeps the old one; there is none after this.
        object.__setattr__(loader, 'batch_sampler', sampler)
        loader._iterator = None
        return sampler

    @property
    def sampler(self) -> Sampler:
        """What orders the samples."""
        return self.batch_sampler.sampler

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self.batch_sampler.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether a smaller last batch is left out."""
        return self.batch_sampler.drop_last

    @property
    def order_seed(self) -> int | None:
        """What the order of the samples follows from, ``None`` where it does not say."""
        return getattr(self.sampler, 'seed', None)

    def begin(
        self, entropy: tuple[int, int], iteration: int, skip: int = 0, endless: bool = False
    ) -> None:
        """Decides what the next iterator yields.

        Args:
            entropy: Seed and rank.
            iteration: Of the training, the first one's after the skipped batches.
            skip: Batches to leave out, which are not loaded.
            endless: Whether to begin the data anew at their end. ``skip`` may exceed one pass then.
        """
        self._undelivered.clear()
        self._rest = self._seeded(entropy, iteration, skip, endless)

    def delivered(self) -> None:
        """Takes note that the next batch has arrived."""
        self._undelivered.popleft()

    def restore_order(self, seed: int | None) -> None:
        """Sets the order of the samples back to its begin.

        Args:
            seed: ``order_seed`` of the run to continue; ``None`` keeps the own one.
        """
        if seed is not None and self.order_seed is not None:
            self.sampler.seed = seed
        if isinstance(self.sampler, InfiniteSampler):  # the only one that goes on where it was
            self.sampler.indices = self.sampler._indices_of_rank()

    def __iter__(self) -> Iterator[SeededBatch | Sequence[int]]:
        if self._rest is None and not self._undelivered:
            yield from self.batch_sampler
            return
        yield from tuple(self._undelivered)
        for batch in self._rest or ():
            self._undelivered.append(batch)
            yield batch
        self._rest = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def _seeded(
        self, entropy: tuple[int, int], iteration: int, skip: int, endless: bool
    ) -> Iterator[SeededBatch]:
        for epoch in itertools.count():
            if endless and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            for batch in self.batch_sampler:
                if skip > 0:
                    skip -= 1
                    continue
                yield SeededBatch(tuple(batch), (*entropy, iteration))
                iteration += 1
            if not endless:
                return
