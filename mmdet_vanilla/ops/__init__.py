"""mmcv's operators in PyTorch, for an mmcv that was installed without compiling them.

mmcv's operators are C++ that compiles for many minutes and needs a compiler; mmcv imports them from
``mmcv._ext``. Where there is no such file, :func:`install` lets Python find one made of the
functions in this package. Compiled operators, where they are there, always win.
"""

from .extension import install, using_stand_ins

__all__ = ['install', 'using_stand_ins']
