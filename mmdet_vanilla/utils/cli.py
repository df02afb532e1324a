"""What the command-line tools share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from mmengine.config import Config, DictAction

from .checkpoint import restrict_mmengine_loading
from .errors import UserError


def run(main: Callable[[], None]) -> None:
    """Runs a tool; a :class:`UserError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides of a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=8 or key="[a,b]"',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing share."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    add_cfg_options(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints without restrictions, which runs whatever code they hold',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='of the job'
    )
    # torch.distributed.launch passes this one; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def apply_run_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Applies the options of :func:`add_run_arguments` to a config."""
    if not args.trust_checkpoint:
        restrict_mmengine_loading()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', name)
