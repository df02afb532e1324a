"""Checks the packages that the project builds on.

They are no hard requirements: two stacks offer the same import names (``mmengine``, ``mmcv``,
``mmdet``), and pip would install one over the other.
"""

from __future__ import annotations

import importlib

from .version import __version__

# Import name: (first supported version, first unsupported one, or None).
SUPPORTED = {
    'torch': ('2.1', None),
    'mmengine': ('0.10.4', '1.0'),
    'mmcv': ('2.1', '3.0'),
    'mmdet': ('3.3', '4.0'),
}

INSTALL = (
    'Install one of the two stacks (mmcv compiles for about 11 minutes on 2 cores):\n'
    '  maintained forks:  pip install torch==2.13.0 setuptools==80.10.2 wheel ninja, then '
    'MMCV_WITH_OPS=1 pip install --no-build-isolation onedl-mmengine==0.10.12 '
    'onedl-mmcv==2.3.6 onedl-mmdetection==3.5.1\n'
    '  OpenMMLab:         pip install torch==2.1.2 "numpy<2" "opencv-python<4.11" '
    '"setuptools<70" wheel ninja, then MMCV_WITH_OPS=1 pip install --no-build-isolation '
    'mmengine==0.10.7 mmcv==2.1.0 mmdet==3.3.0\n'
    'Do not mix them.'
)


class StackError(ImportError):
    """A package that the project builds on is missing or not supported."""


def _release(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split('+')[0].split('.')[:3]:
        digits = ''.join(c for c in part if c.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _problem(name: str, first: str, last: str | None) -> str | None:
    expected = f'>= {first}' + (f', < {last}' if last else '')
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            return f'{name} cannot be imported, since {error.name} is missing'
        return f'{name} is missing (expected {expected})'
    except (ImportError, AssertionError) as error:
        return f'{name} cannot be imported: {error}'
    version = _release(str(module.__version__))
    if version < _release(first) or (last and version >= _release(last)):
        return f'{name} {module.__version__} is not supported (expected {expected})'
    return None


def _missing_operators() -> str | None:
    try:
        importlib.import_module('mmcv.ops')
    except ImportError as error:
        return (
            'mmcv was installed without its compiled operators, which mmdet imports '
            f'({error}): reinstall it with MMCV_WITH_OPS=1'
        )
    return None


def check_stack() -> None:
    """Checks that torch, mmengine, mmcv (with operators) and mmdet are there and supported.

    Raises:
        StackError: With everything that is wrong, and the command that installs it.
    """
    problems = [_problem(name, *versions) for name, versions in SUPPORTED.items()]
    if not any(problems):
        problems = [_missing_operators()]
    found = [problem for problem in problems if problem]
    if found:
        raise StackError(f'mmdet_vanilla {__version__}: {"; ".join(found)}.\n{INSTALL}')
