"""What the command-line tools share."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def run(
    parse_args: Callable[[], argparse.Namespace], main: Callable[[argparse.Namespace], None]
) -> None:
    """Runs a tool, in which no code of a checkpoint is run unless its arguments say so.

    Arguments are looked at before mmdet is imported, which takes seconds. A :class:`UserError`, a
    stack that is not right or a full disk becomes one line on stderr and exit status 2.
    """
    args = parse_args()
    # Threads that wait for others in a loop take the core from those they wait for as soon as
    # another process runs, and a training step takes several times as long. Read when torch loads.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from mmdet_vanilla import register
    from mmdet_vanilla.stack import StackError

    try:
        register()
        _run_restricted(args, main)
    except (UserError, StackError) as error:
        message = str(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        message = f'{error}. Make room; a training goes on from its last checkpoint with --resume.'
    else:
        return
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)


def _run_restricted(args: argparse.Namespace, main: Callable[[argparse.Namespace], None]) -> None:
    from .checkpoint import restrict_mmengine_loading, trust_checkpoints

    restrict_mmengine_loading()
    trust_checkpoints(getattr(args, 'trust_checkpoint', False))
    try:
        main(args)
    finally:
        trust_checkpoints(False)


def check_outputs(*files: str | os.PathLike | None) -> None:
    """Checks before the work that files can be written when it is done.

    Raises:
        UserError: If one is a folder, or lies in none that may be written to.
    """
    for file in filter(None, files):
        folder = os.path.dirname(os.path.abspath(file))
        if os.path.isdir(file) or not os.access(folder, os.W_OK):
            raise UserError(
                f'cannot write {os.fspath(file)}: expected a file in a folder that exists and may '
                'be written to.'
            )


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Applies the options of :func:`.arguments.add_run_arguments` to a config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', name)
