"""How far float32 and bfloat16 detections are from float64's, of the same weights and image.

Example:
    python tools/measure_precision.py configs/rtdetr_r18vd_coco.py --weights rtdetr_r18vd.pth
"""

import argparse
import copy

from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--weights', required=True, help='checkpoint of the config')
    parser.add_argument('--size', type=int, default=640, help='side of the square random image')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from mmdet.apis import init_detector
    from mmdet.structures import DetDataSample

    from mmdet_vanilla.evaluation import compare_detections
    from mmdet_vanilla.models import switch_to_deploy
    from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
    from mmdet_vanilla.utils.preflight import load_config
    from mmdet_vanilla.utils.weights import load_weights

    model = init_detector(load_config(args.config), device='cpu', palette='random')
    load_weights(model, fetch_checkpoint(args.weights), args.weights)
    torch.manual_seed(0)
    image = torch.rand(1, 3, args.size, args.size, dtype=torch.float64)
    shape = (args.size, args.size)
    meta = dict(img_shape=shape, batch_input_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))

    def detect(model, dtype, autocast):
        sample = DetDataSample(metainfo=meta)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            return model.predict(image.to(dtype), [sample])[0].pred_instances

    reference = detect(copy.deepcopy(model).double(), torch.float64, False)
    fused = copy.deepcopy(model)
    switch_to_deploy(fused)
    print(
        f'| against float64, {len(reference)} detections | without partner | other label '
        '| largest score difference | largest box difference, px |\n|---|---|---|---|---|'
    )
    for name, candidate, autocast in (
        ('float32', model, False),
        ('float32, fused', fused, False),
        ('bfloat16 autocast', model, True),
        ('bfloat16 autocast, fused', fused, True),
    ):
        result = compare_detections(reference, detect(candidate, torch.float32, autocast))
        print(
            f'| {name} | {result.num_unmatched} | {result.num_labels} | {result.score:.1e} '
            f'| {result.box:.2g} |'
        )


if __name__ == '__main__':
    run(parse_args, main)
