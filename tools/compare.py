"""Compare detectors side by side: cost, latency, memory and AP in one run, with pictures.

An ITEM is a config (configs/x.py), config::checkpoint, a name of mmdet's zoo
(mmdet::retinanet/retinanet_r50_fpn_1x_coco.py), one of these with @deploy for the fused form, or an
exported file (.onnx, OpenVINO's .xml). docs/compare.md explains every column.

Example:
    python tools/compare.py configs/rtdetr_r18vd_coco.py mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from mmdet_vanilla.utils.arguments import add_data_arguments
from mmdet_vanilla.utils.cli import run

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    summary, _, rest = __doc__.partition('\n')
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('items', nargs='+', metavar='ITEM', help='what to compare, see below')
    parser.add_argument(
        '--split', choices=SPLITS, help='where AP is measured (default: test, or else val)'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare'))
    parser.add_argument('--resume', action='store_true', help='go on, skip what is done')
    parser.add_argument('--device', help='cpu, cuda:0, ...; the best there is by default')
    parser.add_argument('--threads', type=int, default=0, help="default: PyTorch's choice")
    parser.add_argument('--rounds', type=int, default=20, help='timed calls of each, in rounds')
    parser.add_argument('--warmup', type=int, default=2, help='calls of each before that')
    parser.add_argument(
        '--batches', type=int, nargs='+', default=[1, 4, 8], help='batch sizes of throughput'
    )
    parser.add_argument('--batch-rounds', type=int, default=3, help='timed calls with a batch')
    parser.add_argument(
        '--img-scale', type=int, metavar='SIDE', help='force squares instead of their own sizes'
    )
    parser.add_argument('--image', help='image that latency is measured on')
    parser.add_argument(
        '--time-decoding', action='store_true', help='count reading and decoding image files'
    )
    parser.add_argument(
        '--resamples', type=int, default=400, help='of the images, for intervals of AP; 0: none'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--train', metavar='BUDGET', help='train all from scratch before: 600it, 90s, 10min, 2h'
    )
    parser.add_argument(
        '--keep-init', action='store_true', help='with --train, keep pre-trained initialisation'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score in pictures and disagreements'
    )
    add_data_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmengine.device import get_device

    from mmdet_vanilla.comparison import Budget, Comparison, Settings
    from mmdet_vanilla.comparison.table import print_table
    from mmdet_vanilla.comparison.verdicts import verdicts

    given = {split: getattr(args, f'{split}_ann') for split in SPLITS}
    annotations = {split: path for split, path in given.items() if path}
    settings = Settings(
        out=args.out,
        data=args.data,
        split=args.split,
        annotations=annotations or None,
        img_dir=args.img_dir,
        allow_outside=args.allow_outside,
        device=args.device or get_device(),
        threads=args.threads,
        rounds=args.rounds,
        warmup=args.warmup,
        batches=tuple(sorted(set(args.batches) | {1})),
        batch_rounds=args.batch_rounds,
        img_scale=args.img_scale,
        image=args.image,
        time_decoding=args.time_decoding,
        resamples=args.resamples,
        seed=args.seed,
        train=Budget.parse(args.train) if args.train else None,
        keep_init=args.keep_init,
        score_thr=args.score_thr,
    )
    # In a file or a pipe there is no width to keep.
    console = Console(width=None if sys.stdout.isatty() else 240, markup=False)
    command = shlex.join(['python', 'tools/compare.py', *sys.argv[1:]])
    comparison = Comparison(args.items, settings, command, args.resume, console)
    try:
        report = comparison.run()
    except KeyboardInterrupt:
        console.print(f'Interrupted; with --resume it goes on where it stopped, in {args.out}.')
        sys.exit(130)
    print_table(comparison.columns, report['rows'], console)
    for row in report['rows']:
        if row['status'] == 'failed':
            console.print(f'{row["name"]}: {row["reason"]}', style='red', highlight=False)
    for sentence in verdicts(report):
        console.print(sentence, highlight=False)
    console.print(f'Everything is in {args.out}; open {args.out / "index.html"}.', highlight=False)


if __name__ == '__main__':
    run(parse_args, main)
