from .samplers import *  # noqa: F403
from .robust_coco import RobustCocoDataset, UnreadableImagesError
from .transforms import *  # noqa: F403

__all__ = ['RobustCocoDataset', 'UnreadableImagesError']
