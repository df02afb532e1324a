"""Epochs of any length over a data set of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class EndlessShuffleSampler(Sampler):
    """Cuts an endless sequence of shuffles of the data set into epochs of equal length.

    Every sample is drawn equally often to within one, whatever the length of an epoch. What an
    epoch draws depends on the seed and its number alone, so that a training can be resumed.

    Args:
        dataset: The data set.
        num_samples: Samples of an epoch, over all processes; a multiple of their number.
        seed: Of the shuffles.

    Raises:
        ValueError: If ``num_samples`` cannot be shared by the processes, or the data set is empty.
    """

    def __init__(self, dataset: Sized, num_samples: int, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        if num_samples < 1 or num_samples % self.world_size:
            raise ValueError(
                f'num_samples={num_samples}: expected a multiple of the {self.world_size} '
                'processes above 0.'
            )
        if not len(dataset):
            raise ValueError('the data set is empty.')
        self.dataset = dataset
        self.num_samples = num_samples
        self.seed = seed or 0
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        begin, size = self.epoch * self.num_samples, len(self.dataset)
        indices = []
        for number in range(begin // size, (begin + self.num_samples - 1) // size + 1):
            generator = torch.Generator().manual_seed(self.seed + number)
            indices += torch.randperm(size, generator=generator).tolist()
        first = begin % size
        return iter(indices[first : first + self.num_samples][self.rank :: self.world_size])

    def __len__(self) -> int:
        return self.num_samples // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch."""
        self.epoch = epoch
