"""What the command-line tools share."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable

from mmengine.config import Config, DictAction

from .checkpoint import restrict_mmengine_loading, trust_checkpoints
from .errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def run(main: Callable[[], None]) -> None:
    """Runs a tool, in which no code of a checkpoint is run.

    A :class:`UserError` or a full disk becomes one line on stderr and exit status 2.
    """
    restrict_mmengine_loading()
    trust_checkpoints(False)
    try:
        main()
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        message = f'{error}. Make room; a training goes on from its last checkpoint with --resume.'
    else:
        return
    finally:
        trust_checkpoints(False)
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)


def positive(text: str) -> int:
    """Type of an option that is a whole number from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{number} is not positive')
    return number


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


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides of a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=8 or key="[a,b]"',
    )


class _TrustCheckpoints(argparse.Action):
    """Says so for the whole process, while the command line is read: before any file is."""

    def __call__(self, *args: object) -> None:
        trust_checkpoints()


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that lets checkpoints run code."""
    settings = dict(action=_TrustCheckpoints, nargs=0, dest=argparse.SUPPRESS)
    parser.add_argument(
        '--trust-checkpoint',
        help='unpickle checkpoints without restrictions, which runs whatever code they hold',
        **settings,
    )
    parser.add_argument('--trust-pickle', help=argparse.SUPPRESS, **settings)  # its former name


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing share."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    add_cfg_options(parser)
    add_trust_option(parser)
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='of the job'
    )
    # torch.distributed.launch passes this one; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Applies the options of :func:`add_run_arguments` to a config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', name)
