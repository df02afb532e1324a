from .batched_hungarian_matcher import BatchedHungarianMatcher

__all__ = ['BatchedHungarianMatcher']
