from .iou_crop import RandomIoUCrop
from .loading import LoadImageFromFile, LoadImageFromNDArray
from .photometric_distort import RandomPhotometricDistort

__all__ = [
    'LoadImageFromFile',
    'LoadImageFromNDArray',
    'RandomIoUCrop',
    'RandomPhotometricDistort',
]
