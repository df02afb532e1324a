"""Cut the NEON tree crowns of the package deepforest into tiles in COCO format.

Example:
    pip download --no-deps deepforest==2.1.0
    python tools/dataset_converters/neon_trees.py deepforest-2.1.0-py3-none-any.whl data/neon_trees
"""

import argparse
from pathlib import Path

from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='wheel of deepforest 2.1.0, or its folder')
    parser.add_argument('out_dir', type=Path, help='folder of the data set')
    parser.add_argument('--tile', type=int, default=400, help='side in px, default: %(default)s')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet_vanilla.datasets.neon_trees import convert

    for name, (tiles, boxes) in convert(args.source, args.out_dir, args.tile).items():
        print(f'{name}: {tiles} tiles, {boxes} trees')


if __name__ == '__main__':
    run(parse_args, main)
