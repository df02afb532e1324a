"""VanillaNet backbones and RT-DETR for MMDetection 3.x.

Importing the package registers its modules in mmdet's registries and lets mmengine resolve config
names that begin with ``mmdet_vanilla::``.
"""

import sys

from .version import __version__

__all__ = ['__version__', 'register']


def register() -> None:
    """Registers everything in mmdet's registries. A second call changes nothing.

    Raises:
        mmdet_vanilla.stack.StackError: If torch, mmengine, mmcv or mmdet is missing, not supported
            or of another stack than the others.
    """
    from . import ops
    from .deferred_imports import deferred_imports
    from .stack import check_stack

    ops.install()  # before anything imports mmcv's operators
    with deferred_imports():
        check_stack()

        from mmengine.config.utils import MODULE2PACKAGE

        MODULE2PACKAGE.setdefault('mmdet_vanilla', 'mmdet_vanilla')

        from . import datasets, engine, evaluation, models, registry  # noqa: F401


# The package's own commands look at their arguments first: importing mmdet takes seconds.
if not getattr(sys.modules['__main__'], 'REGISTERS_WHEN_ARGUMENTS_ARE_KNOWN', False):
    register()
