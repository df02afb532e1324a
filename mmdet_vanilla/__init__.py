"""VanillaNet backbones and RT-DETR for MMDetection 3.x.

Importing the package registers its modules in mmdet's registries and lets mmengine resolve config
names that begin with ``mmdet_vanilla::``.
"""

import sys
from pathlib import Path

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


def _is_a_tool_of_ours() -> bool:
    """Whether this process was started as one of the package's tools, and is not a worker of it."""
    main = sys.modules['__main__']
    file = getattr(main, '__file__', None)
    if not file or main.__name__ != '__main__':  # a worker that was spawned calls it __mp_main__
        return False
    package = Path(__file__).resolve().parent
    tools = (package.parent / 'tools', package / '.mim' / 'tools')
    return any(folder.resolve() in Path(file).resolve().parents for folder in tools)


# Importing mmdet takes seconds: a tool looks at its arguments first (mmdet_vanilla.utils.cli.run).
if not _is_a_tool_of_ours():
    register()
