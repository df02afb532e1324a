"""Kill a training at random moments, resume it, and compare its end with an undisturbed one.

Example:
    python tools/measure_interruptions.py configs/bccd/rtdetr_vanillanet_deim_deep_bccd.py \
        --kills 30 --workers 0 2 --epochs 6
"""

import argparse
from pathlib import Path

from mmdet_vanilla.utils.arguments import add_cfg_options
from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--epochs', type=int, default=6, help='length of the training')
    parser.add_argument('--kills', type=int, default=30, help='how often it is killed')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='of the data loader')
    parser.add_argument('--interval', type=int, default=5, help='iterations between checkpoints')
    parser.add_argument('--seed', type=int, default=0, help='of the moments of the kills')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/interruptions'))
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet_vanilla.benchmark.interruptions import InterruptionError, interrupt
    from mmdet_vanilla.utils.preflight import check_data_files, load_config
    from mmdet_vanilla.utils.rescale_schedule import rescale_schedule

    if args.out.exists():
        raise InterruptionError(f'{args.out} exists: delete it, or choose another --out.')
    print(
        '| workers | iterations | kills | while writing | files cut off | before a checkpoint '
        '| final state |\n|---|---|---|---|---|---|---|'
    )
    spoilt = []
    for workers in args.workers:
        cfg = load_config(args.config, args.cfg_options)
        check_data_files(cfg, ('train', 'val'))
        rescale_schedule(cfg, args.epochs)
        cfg.train_cfg.val_interval = args.epochs
        cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        result = interrupt(cfg, args.out / str(workers), args.kills, args.interval, args.seed)
        spoilt += result.different
        print(
            f'| {workers} | {result.iterations} | {result.kills} | {result.while_writing} '
            f'| {result.cut_off} | {result.before_first} '
            f'| {f"{len(result.different)} entries differ" if result.different else "identical"} |',
            flush=True,
        )
    if spoilt:
        raise InterruptionError(f'these differ: {", ".join(spoilt[:10])}.')


if __name__ == '__main__':
    run(parse_args, main)
