from .endless_shuffle_sampler import EndlessShuffleSampler
from .seeded_batch_sampler import SeededBatchSampler

__all__ = ['EndlessShuffleSampler', 'SeededBatchSampler']
