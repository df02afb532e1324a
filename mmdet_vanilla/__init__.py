"""VanillaNet backbones and RT-DETR for MMDetection 3.x.

Importing the package registers its modules in mmdet's registries and lets mmengine resolve config
names that begin with ``mmdet_vanilla::``.
"""

from . import ops
from .stack import check_stack
from .version import __version__

# Before anything imports mmcv's operators.
ops.install()
check_stack()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

MODULE2PACKAGE.setdefault('mmdet_vanilla', 'mmdet_vanilla')

from . import datasets, engine, models, registry  # noqa: E402, F401

__all__ = ['__version__']
