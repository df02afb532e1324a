"""Convert weights of RT-DETR, RT-DETRv2 and VanillaNet to this package's form, or back.

Example:
    python tools/convert_weights.py rtdetr_r18vd_dec3_6x_coco.pth rtdetr_r18vd.pth
    python tools/convert_weights.py work_dirs/.../epoch_72.pth official.pth --to official
"""

import argparse
import os

from mmdet_vanilla.utils.arguments import add_trust_option
from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='.pth or .safetensors file, or a folder of transformers')
    parser.add_argument('dst', help='.pth or .safetensors file to write')
    parser.add_argument('--config', help='config that the weights are for; by default picked')
    parser.add_argument(
        '--to',
        choices=['ours', 'official', 'officialv2'],
        default='ours',
        help="this package's names (default), or the RT-DETR or RT-DETRv2 authors'",
    )
    parser.add_argument(
        '--other-classes',
        action='store_true',
        help='leave out the layers made for another number of classes than that of --config',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    add_trust_option(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import mmdet_vanilla
    from mmdet_vanilla.utils.checkpoint import (
        find_checkpoint,
        read_checkpoint,
        write_checkpoint,
    )
    from mmdet_vanilla.utils.convert import convert
    from mmdet_vanilla.utils.official_names import to_official_state_dict
    from mmdet_vanilla.utils.preflight import PreflightError
    from mmdet_vanilla.utils.weights import meta_of

    if not args.dst.endswith(('.pth', '.pt', '.safetensors')):
        raise PreflightError(f'{args.dst}: the name must end in .pth, .pt or .safetensors.')
    if os.path.exists(args.dst) and not args.overwrite:
        raise PreflightError(f'{args.dst} exists: give another name, or --overwrite.')
    try:
        foreign = read_checkpoint(find_checkpoint(args.src))
    except FileNotFoundError as error:
        raise PreflightError(str(error)) from None

    result = convert(foreign, args.config, args.other_classes)
    target = result.config_name if result.arch is None else f'VanillaNet, arch {result.arch!r}'
    print(f'Recognised {result.source} ({len(result.state_dict)} tensors): {target}.')
    for name, why in result.left_out.items():
        print(f'  left out  {name}: {why}')
    for name in result.left_new:
        print(f'  left new  {name}')
    state = result.state_dict
    if args.to != 'ours':
        state = to_official_state_dict(state, 2 if args.to == 'officialv2' else 1)
        content = dict(ema=dict(module=state), model=state)
    else:
        content = dict(state_dict=state, meta=dict(mmdet_vanilla_version=mmdet_vanilla.__version__))
        dataset_meta = meta_of(foreign).get('dataset_meta')
        if dataset_meta:
            content['meta']['dataset_meta'] = dataset_meta
        elif result.num_classes == 80:
            from mmdet.datasets import CocoDataset

            content['meta']['dataset_meta'] = CocoDataset.METAINFO
    write_checkpoint(content, args.dst)
    print(f'Wrote {args.dst}.')


if __name__ == '__main__':
    run(parse_args, main)
