"""Train a detector on a handful of images until it knows them by heart.

A model, loss or data pipeline with a mistake does not get there.

Example:
    python tools/overfit.py configs/bccd/rtdetr_vanillanet_bccd.py --data data/bccd
"""

import argparse
import json
import os
from pathlib import Path

from mmdet_vanilla.utils.arguments import add_data_arguments
from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config whose data are in COCO format')
    parser.add_argument('--images', type=int, default=8, help='number of training images')
    parser.add_argument('--steps', type=int, default=600, help='training steps')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/overfit'))
    parser.add_argument(
        '--from-scratch', action='store_true', help='as of tools/train.py: with random weights'
    )
    add_data_arguments(parser, ('train', 'val'))
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmengine.runner import Runner

    from mmdet_vanilla.utils.apply_data import apply_data, load_data_arguments
    from mmdet_vanilla.utils.preflight import check_data_files, load_config, require_file
    from mmdet_vanilla.utils.pretrained import prepare_initial_weights
    from mmdet_vanilla.utils.rescale_schedule import rescale_schedule

    cfg = load_config(args.config)
    data = load_data_arguments(args, ('train', 'val'))
    if data:
        apply_data(cfg, data)
    dataset = cfg.train_dataloader.dataset
    ann_file = os.path.join(dataset.data_root, dataset.ann_file)
    require_file(ann_file, 'annotation file')
    content = json.loads(Path(ann_file).read_text())
    content['images'] = content['images'][: args.images]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in ids]
    args.work_dir.mkdir(parents=True, exist_ok=True)
    subset = (args.work_dir / 'subset.json').resolve()
    subset.write_text(json.dumps(content))

    # The images as they are: what is tested is whether they can be learnt. In a test pipeline the
    # annotations are loaded last, in pixels of the file; here they have to follow the image.
    dataset.ann_file = str(subset)
    steps = [dict(step) for step in cfg.test_pipeline]
    steps.sort(key=lambda step: not step['type'].startswith('Load'))
    dataset.pipeline = steps
    for mode in ('val', 'test'):
        loader = cfg[f'{mode}_dataloader'].dataset
        loader.update(
            data_root=dataset.data_root, ann_file=str(subset), data_prefix=dataset.data_prefix
        )
        cfg[f'{mode}_evaluator'].ann_file = str(subset)
    batch_size = min(cfg.train_dataloader.batch_size, args.images)
    cfg.train_dataloader.batch_size = batch_size
    steps_per_epoch = max(1, args.images // batch_size)
    rescale_schedule(cfg, max(1, args.steps // steps_per_epoch))
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    cfg.default_hooks.checkpoint.interval = cfg.train_cfg.max_epochs
    cfg.work_dir = str(args.work_dir)
    check_data_files(cfg, ('train', 'val'))
    prepare_initial_weights(cfg, from_scratch=args.from_scratch)
    runner = Runner.from_cfg(cfg)
    runner.train()
    # Of the validation after the last epoch, with the averaged weights.
    ap, ap50 = (
        runner.message_hub.get_scalar(f'val/coco/bbox_mAP{key}').current() for key in ('', '_50')
    )
    print(f'{len(ids)} images, {runner.iter} steps: AP {ap:.3f}, AP50 {ap50:.3f}')


if __name__ == '__main__':
    run(parse_args, main)
