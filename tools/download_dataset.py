"""Download COCO 2017 or BCCD to where the configs look for it.

An interrupted download goes on where it stopped when it is started again.

Example:
    python tools/download_dataset.py bccd
    python tools/download_dataset.py coco2017 --only val
"""

import argparse
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mmdet_vanilla.utils.cli import run

FOLDERS = dict(coco2017='data/coco', bccd='data/bccd')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('name', choices=sorted(FOLDERS), help='coco2017 (20.4 GB) or bccd (8 MB)')
    parser.add_argument('--out', type=Path, help='folder; data/coco or data/bccd by default')
    parser.add_argument(
        '--only', help='only the archives with this in their name: val, annotations'
    )
    parser.add_argument('--mirror', metavar='URL', help='folder with the archives on your server')
    parser.add_argument('--keep-archives', action='store_true', help='keep them after unpacking')
    parser.add_argument(
        '--largest-ratio',
        type=float,
        help='refuse archives that grow by more than this; the default suits photographs',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet_vanilla.datasets.download import LARGEST_RATIO
    from mmdet_vanilla.datasets.sources import download

    out = args.out or Path(FOLDERS[args.name])
    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:

        def begin(title: str):
            task = bar.add_task(title, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        download(
            args.name,
            out,
            args.mirror,
            args.only,
            args.keep_archives,
            LARGEST_RATIO if args.largest_ratio is None else args.largest_ratio,
            begin,
        )
    print(f'{args.name} is in {out}.')


if __name__ == '__main__':
    run(parse_args, main)
