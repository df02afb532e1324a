from .iou_crop import RandomIoUCrop
from .photometric_distort import RandomPhotometricDistort

__all__ = ['RandomIoUCrop', 'RandomPhotometricDistort']
