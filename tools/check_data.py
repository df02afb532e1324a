"""Check a data set before training on it: annotations, images, splits, classes.

Exit status: 0 when it can be trained on, 1 when not, 2 when there is nothing to check.

Example:
    python tools/check_data.py data/bccd --images
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from mmdet_vanilla.utils.arguments import add_data_arguments
from mmdet_vanilla.utils.cli import run

if TYPE_CHECKING:
    from mmdet_vanilla.datasets.checks import CheckResult

STYLES = dict(fatal='bold red', repaired='yellow', reported='cyan')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', help='folder with COCO json, Pascal VOC XML or YOLO txt')
    add_data_arguments(parser, with_data=False)
    parser.add_argument('--images', action='store_true', help='decode and compare all images, too')
    parser.add_argument(
        '--queries', type=int, default=300, help='num_queries of the model to be trained'
    )
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/check_data'), help='folder of the report'
    )
    parser.add_argument('--no-pictures', action='store_true', help='write report.json only')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet_vanilla.datasets.checks import write_report
    from mmdet_vanilla.datasets.user_data import AnnotationError, NoAnnotationsError
    from mmdet_vanilla.utils.preflight import require_writable_folder

    require_writable_folder(args.out, '--out')
    console = Console()
    try:
        result = check(args, console)
    except NoAnnotationsError:
        raise
    except AnnotationError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
    write_report(result, args.out, not args.no_pictures)
    show(result, console)
    console.print(f'Report: {args.out}', markup=False, highlight=False)
    if result.fatal:
        print('error: the data cannot be trained on as they are, see above.', file=sys.stderr)
        sys.exit(1)


def check(args: argparse.Namespace, console: Console) -> CheckResult:
    from mmdet_vanilla.datasets.checks import check_data

    with Progress(console=console) as bar:

        def begin(title: str, steps: int) -> Callable[[int], object]:
            task = bar.add_task(title, total=steps)
            return lambda advance: bar.advance(task, advance)

        return check_data(
            args.data,
            dict(train=args.train_ann, val=args.val_ann, test=args.test_ann),
            args.img_dir,
            args.allow_outside,
            args.images,
            args.queries,
            args.processes,
            begin,
        )


def show(result: CheckResult, console: Console) -> None:
    from mmdet_vanilla.datasets.checks import summary_line

    console.print(f'Format: {result.kind}')
    for name, split in result.splits.items():
        console.print(summary_line(name, split), markup=False, highlight=False)
    table = Table('split', 'verdict', 'number', 'what', 'done, or to be done', show_lines=True)
    for name, verdict, count, what, remedy in result.rows():
        table.add_row(name, f'[{STYLES[verdict]}]{verdict}[/]', str(count), escape(what), remedy)
    if table.row_count:
        console.print(table)
    else:
        console.print('Nothing wrong was found.')


if __name__ == '__main__':
    run(parse_args, main)
