"""Options that several tools share, without importing torch: a tool looks at them first."""

from __future__ import annotations

import argparse
from typing import Any

SPLITS = ('train', 'val', 'test')


def positive(text: str) -> int:
    """Type of an option that is a whole number from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{number} is not positive')
    return number


class _DictAction(argparse.Action):
    """mmengine's action for ``KEY=VALUE``, which is imported when the option is given."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        from mmengine.config import DictAction

        action = DictAction(self.option_strings, self.dest, nargs=self.nargs, metavar=self.metavar)
        action(parser, *args, **kwargs)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides of a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=8 or key="[a,b]"',
    )


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that lets checkpoints run code; :func:`mmdet_vanilla.utils.cli.run` obeys."""
    settings = dict(action='store_true', dest='trust_checkpoint')
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


def add_data_arguments(
    parser: argparse.ArgumentParser, modes: tuple[str, ...] = SPLITS, with_data: bool = True
) -> None:
    """Adds the options that name a data set.

    Args:
        parser: Parser of a tool.
        modes: Splits that the tool uses.
        with_data: Whether to add ``--data`` itself.
    """
    group = parser.add_argument_group(
        'data', 'your own data instead of those of the config (docs/data.md)'
    )
    if with_data:
        group.add_argument(
            '--data', metavar='PATH', help='folder with COCO json, Pascal VOC XML or YOLO txt'
        )
    for mode in modes:
        group.add_argument(
            f'--{mode}-ann', metavar='FILE', help=f'COCO file of the {mode} split, in PATH'
        )
    group.add_argument('--img-dir', metavar='FOLDER', help='folder of the images, in PATH')
    group.add_argument(
        '--allow-outside',
        action='store_true',
        help='allow file names in annotations that lead out of the image folder',
    )
