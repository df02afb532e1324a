"""Detect objects in an image or in all images of a folder, with mmdet's DetInferencer.

Example:
    python tools/image_demo.py photo.jpg configs/rtdetr_vanillanet6_coco.py --weights model.pth
"""

import argparse
import os

from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects in images.')
    parser.add_argument('inputs', help='image or folder of images')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--weights', required=True, help='path or URL of the checkpoint')
    parser.add_argument('--out-dir', default='outputs', help='folder for pictures and JSON files')
    parser.add_argument('--device', help='cpu, cuda:0, ...; the best there is by default')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score to draw')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time')
    parser.add_argument('--fuse', action='store_true', help='run the fused (deploy) form')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet.apis import DetInferencer

    from mmdet_vanilla.models import switch_to_deploy
    from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
    from mmdet_vanilla.utils.classes import apply_checkpoint_classes
    from mmdet_vanilla.utils.preflight import PreflightError, load_config, require_file
    from mmdet_vanilla.utils.weights import load_weights

    if not os.path.exists(args.inputs):
        raise PreflightError(f'no image or folder at {os.path.abspath(args.inputs)}.')
    cfg = load_config(args.config)
    if '://' not in args.weights:
        require_file(args.weights, 'checkpoint')
    # DetInferencer would unpickle the file, and only warn of weights that do not fit.
    checkpoint = fetch_checkpoint(args.weights)
    classes = apply_checkpoint_classes(cfg, checkpoint)
    inferencer = DetInferencer(cfg, device=args.device)
    load_weights(inferencer.model, checkpoint, args.weights)
    if classes:
        meta = {**inferencer.model.dataset_meta, 'classes': classes}
        inferencer.model.dataset_meta = inferencer.visualizer.dataset_meta = meta
    if args.fuse:
        switch_to_deploy(inferencer.model)
    inferencer(
        args.inputs,
        batch_size=args.batch_size,
        out_dir=args.out_dir,
        pred_score_thr=args.score_thr,
        no_save_pred=False,
    )


if __name__ == '__main__':
    run(parse_args, main)
