from .batch_mixup import BatchMixUp
from .batch_mosaic import BatchMosaic
from .batch_random_resize import BatchRandomResize

__all__ = ['BatchMixUp', 'BatchMosaic', 'BatchRandomResize']
