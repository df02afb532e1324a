"""Memory of a process that predicts thousands of images, one after the other, by DetInferencer.

Example:
    python tools/measure_prediction_memory.py configs/rtdetr_vanillanet_digits.py \
        --weights work_dirs/demo/checkpoint.pth --count 10000 --size 160
"""

import argparse
import time

from mmdet_vanilla.utils.arguments import add_cfg_options
from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--weights', help='its checkpoint; random weights without')
    parser.add_argument('--count', type=int, default=10000, help='predictions')
    parser.add_argument('--size', type=int, default=160, help='side of the image the model sees')
    parser.add_argument('--device', default='cpu')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import numpy as np
    from mmdet.apis import DetInferencer

    from mmdet_vanilla.benchmark.prediction_memory import drift, resident_memory
    from mmdet_vanilla.utils.preflight import load_config

    cfg = load_config(args.config, args.cfg_options)
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (args.size, args.size)
    inferencer = DetInferencer(cfg, args.weights, device=args.device, show_progress=False)
    rng = np.random.default_rng(0)
    # Of several sizes, as they come from users.
    images = [
        rng.integers(0, 256, (int(h), int(w), 3), dtype=np.uint8)
        for h, w in rng.integers(120, 400, (16, 2))
    ]
    start = time.perf_counter()
    sizes = resident_memory(lambda image: inferencer(image, no_save_vis=True), images, args.count)
    seconds = time.perf_counter() - start
    print(
        f'{args.count} predictions at {args.size} px in {seconds:.0f} s: resident memory '
        f'{min(sizes) / 2**20:.1f} to {max(sizes) / 2**20:.1f} MiB, flat within '
        f'{drift(sizes):.2%}; first {sizes[0] / 2**20:.1f}, last {sizes[-1] / 2**20:.1f} MiB.'
    )


if __name__ == '__main__':
    run(parse_args, main)
