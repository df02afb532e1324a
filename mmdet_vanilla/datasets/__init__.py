from .robust_coco import RobustCocoDataset, UnreadableImagesError
from .samplers import *  # noqa: F403
from .transforms import *  # noqa: F403

__all__ = ['RobustCocoDataset', 'UnreadableImagesError']
