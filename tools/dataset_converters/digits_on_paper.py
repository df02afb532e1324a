# Copyright (c) mmdet_vanilla contributors. All rights reserved.
"""Write the data set "Digits on paper" in COCO format.

Example:
    python tools/dataset_converters/digits_on_paper.py data/digits_on_paper
"""

import argparse
import sys
from pathlib import Path

import cv2

import mmdet_vanilla

mmdet_vanilla.register()  # the defaults of the options are those of the pages

from mmdet_vanilla.datasets.digits_on_paper import PageStyle, generate, sample_sheet


def parse_args(argv=None) -> argparse.Namespace:
    style = PageStyle()
    parser = argparse.ArgumentParser(
        description='Compose real handwritten digits into pages with exact boxes (COCO format). '
        'Does nothing if the folder already holds the same data set.'
    )
    parser.add_argument('out_dir', type=Path, help='folder of the data set')
    parser.add_argument('--train-pages', type=int, default=2000, help='default: %(default)s')
    parser.add_argument('--val-pages', type=int, default=200, help='default: %(default)s')
    parser.add_argument(
        '--page-size',
        type=int,
        default=style.page_size,
        help='side of a page in px, default: %(default)s',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--min-size',
        type=float,
        default=style.min_size,
        help='smallest glyph height in px, default: %(default)s',
    )
    parser.add_argument(
        '--max-size',
        type=float,
        default=style.max_size,
        help='largest glyph height in px, default: %(default)s',
    )
    parser.add_argument(
        '--max-digits',
        type=int,
        default=style.max_digits,
        help='most digits on a page, default: %(default)s',
    )
    parser.add_argument(
        '--sample-sheet',
        type=Path,
        metavar='FILE.png',
        help='also write a grid of twelve train pages, boxes drawn on half of them',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    try:
        style = PageStyle(
            page_size=args.page_size,
            min_size=args.min_size,
            max_size=args.max_size,
            max_digits=args.max_digits,
        )
        generate(args.out_dir, args.train_pages, args.val_pages, args.seed, style, verbose=True)
        if args.sample_sheet:
            sheet = cv2.imencode(
                '.png', sample_sheet(args.seed, style), [cv2.IMWRITE_PNG_COMPRESSION, 9]
            )[1]
            args.sample_sheet.parent.mkdir(parents=True, exist_ok=True)
            args.sample_sheet.write_bytes(sheet.tobytes())
    except (ValueError, ImportError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
