"""Train a small RT-DETR-VanillaNet on handwritten digits, evaluate, fuse and show it.

Everything goes through the tools that a user would call: the data set's converter,
``tools/train.py`` and ``tools/test.py``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mmdet_vanilla.utils.cli import run

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'rtdetr_vanillanet_digits.py'
DATA = Path('data/digits_on_paper')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument(
        '--smoke', action='store_true', help='a few iterations through every stage, to test it'
    )
    return parser.parse_args()


def call(tool: str, *args: object) -> None:
    """Runs a tool of this project; ends the demo where it fails."""
    command = [sys.executable, str(TOOLS / tool), *map(str, args)]
    print('\n$ python', os.path.relpath(command[1]), *command[2:], flush=True)
    code = subprocess.run(command).returncode
    if code:
        sys.exit(f'{tool} ended with status {code}; its messages are above.')


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def save_fused(config: str, checkpoint: Path, out_file: Path) -> None:
    """Writes the weights of the fused form, with the class names."""
    from mmdet.apis import init_detector
    from mmengine.runner import save_checkpoint

    model = init_detector(config, str(checkpoint), device='cpu')
    model.switch_to_deploy()
    meta = dict(dataset_meta=model.dataset_meta, deploy=True)
    save_checkpoint(dict(meta=meta, state_dict=model.state_dict()), str(out_file))


def main(args: argparse.Namespace) -> None:
    import torch

    start = time.time()
    out = args.work_dir
    data, pages, options = DATA, [], []
    if args.smoke:
        data = out / 'data'
        pages = ['--train-pages', 32, '--val-pages', 8]
        options = [
            '--cfg-options',
            f'data_root={data}/',
            *(f'{mode}_dataloader.dataset.data_root={data}/' for mode in ('train', 'val', 'test')),
            *(f'{mode}_evaluator.ann_file={data}/annotations/val.json' for mode in ('val', 'test')),
            'train_cfg.max_epochs=2',
            'train_cfg.val_interval=1',
            'default_hooks.logger.interval=1',
        ]
    # Logs and checkpoints of an earlier demo would be taken for those of this one.
    work_dir = out / 'run'
    shutil.rmtree(work_dir, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)

    call('dataset_converters/digits_on_paper.py', data, *pages)
    call('train.py', CONFIG, '--work-dir', work_dir, *options)
    config = str(newest(work_dir, '*.py'))
    trained = newest(work_dir, 'epoch_*.pth')
    checkpoint = shutil.copy2(trained, out / 'checkpoint.pth')
    call('test.py', config, checkpoint, '--fuse', '--work-dir', work_dir / 'test')
    metrics = json.loads(newest(work_dir / 'test', '*/*.json').read_text())
    metrics = {key: value for key, value in metrics.items() if key.startswith('coco/')}
    (out / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    save_fused(config, checkpoint, out / 'checkpoint_fused.pth')
    shutil.copy2(work_dir / 'results' / 'curves.png', out)
    shutil.copy2(work_dir / 'test' / 'results' / 'test_predictions.png', out / 'detections.png')

    minutes = (time.time() - start) / 60
    print(
        f'\nDone in {minutes:.1f} minutes on {torch.get_num_threads()} threads: '
        f'AP {metrics["coco/bbox_mAP"]:.3f}, AP50 {metrics["coco/bbox_mAP_50"]:.3f} '
        f'on validation pages (0 to 1).\n\n'
        f'  {out}/checkpoint.pth        trained weights (checkpoint_fused.pth: for inference)\n'
        f'  {out}/metrics.json          COCO metrics\n'
        f'  {out}/curves.png            loss and AP during training\n'
        f'  {out}/detections.png        ground truth (left) beside detections (right)\n\n'
        f'Next:\n'
        f'  your own images   python tools/image_demo.py IMAGE_OR_FOLDER {config} '
        f'--weights {checkpoint}\n'
        f'  COCO              python tools/train.py configs/rtdetr_vanillanet6_coco.py\n'
        f'  export            python tools/deploy.py {config} {checkpoint} --image IMAGE '
        f'--deploy-config configs/deploy/onnxruntime_dynamic.py\n'
        f'  model cost        python tools/get_flops.py configs/rtdetr_vanillanet6_coco.py --fuse\n'
    )


if __name__ == '__main__':
    run(parse_args, main)
