"""Count parameters and multiply-accumulate operations of a detector with mmengine's counter.

Example:
    python tools/get_flops.py configs/rtdetr_vanillanet6_coco.py --shape 640 640 --fuse
"""

import argparse

from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count parameters and MACs of a detector.')
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=[640, 640], metavar=('H', 'W'), help='of the input'
    )
    parser.add_argument('--fuse', action='store_true', help='count the fused (deploy) form')
    parser.add_argument('--by-layer', action='store_true', help='print a table of all layers')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from mmdet.registry import MODELS
    from mmengine.analysis import get_model_complexity_info
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    from mmdet_vanilla.models import switch_to_deploy
    from mmdet_vanilla.utils.preflight import load_config

    cfg = load_config(args.config)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    if args.fuse:
        switch_to_deploy(model)
    image = torch.rand(1, 3, *args.shape)
    info = get_model_complexity_info(model, inputs=image, show_table=args.by_layer, show_arch=False)
    if args.by_layer:
        print(info['out_table'])
    print(
        f'{args.config} at {args.shape[0]}x{args.shape[1]}, '
        f'{"fused" if args.fuse else "training"} form:\n'
        f'  parameters {info["params"] / 1e6:.2f} M\n'
        f'  MACs       {info["flops"] / 1e9:.2f} G (twice as many floating-point operations)'
    )


if __name__ == '__main__':
    run(parse_args, main)
