"""Checks the packages that the project builds on.

They are no hard requirements: two stacks offer the same import names (``mmengine``, ``mmcv``,
``mmdet``), and pip would install one over the other.
"""

from __future__ import annotations

import importlib
from importlib import metadata

from .version import __version__

# Import name: (first supported version, first unsupported one, or None).
SUPPORTED = {
    'torch': ('2.1', None),
    'mmengine': ('0.10.4', '1.0'),
    'mmcv': ('2.1', '3.0'),
    'mmdet': ('3.3', '4.0'),
}

INSTALL = (
    'Install one of the two stacks (no compiler is needed):\n'
    '  maintained forks:  pip install torch==2.13.0 onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 '
    'onedl-mmdetection==3.5.1\n'
    '  OpenMMLab:         pip install torch==2.1.2 "numpy<2" "opencv-python<4.11" '
    '"setuptools<70" wheel, then, with a file c.txt that says setuptools<70, '
    'PIP_CONSTRAINT=c.txt pip install --use-pep517 mmengine==0.10.7 mmcv==2.1.0 mmdet==3.3.0\n'
    'Do not mix them.'
)

# Distributions that write the same files, by the import name.
_RIVALS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}


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


def _mixed_stacks() -> str | None:
    """Whether one stack's files were written over the other's, which pip does without a word."""
    for names in _RIVALS.values():
        there = [name for name in names if _installed(name)]
        if len(there) > 1:
            return (
                f'{" and ".join(there)} are both installed, and each has written over files of the '
                f'other: make a new environment, or remove both (pip uninstall {" ".join(there)}) '
                "and install one; what requires the other goes in with pip's --no-deps"
            )
    return None


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _broken_operators() -> str | None:
    try:
        importlib.import_module('mmcv.ops')
    except (ImportError, AssertionError) as error:
        return (
            f"mmcv's operators cannot be loaded ({error}): they were compiled for another torch. "
            'Compile them anew (make setup-ops in a clone of mmdet_vanilla), or do without: '
            'pip install --force-reinstall --no-deps --no-cache-dir onedl-mmcv'
        )
    return None


def check_stack() -> None:
    """Checks that torch, mmengine, mmcv and mmdet are there, of one stack and supported.

    Raises:
        StackError: With everything that is wrong, and the command that installs it.
    """
    problems = [_mixed_stacks()]
    if not any(problems):
        problems = [_problem(name, *versions) for name, versions in SUPPORTED.items()]
    if not any(problems):
        problems = [_broken_operators()]
    found = [problem for problem in problems if problem]
    if found:
        raise StackError(f'mmdet_vanilla {__version__}: {"; ".join(found)}.\n{INSTALL}')
