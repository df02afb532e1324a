"""Train a detector.

Example:
    python tools/train.py configs/rtdetr_vanillanet6_coco.py --amp

Backbones begin with the ImageNet weights of their authors, which are downloaded once; see
docs/training.md, and --from-scratch.
"""

import argparse
import os

from mmdet_vanilla.utils.arguments import add_data_arguments, add_run_arguments
from mmdet_vanilla.utils.cli import apply_run_arguments, run
from mmdet_vanilla.utils.vis_backends import BACKENDS, add_vis_backends


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a detector.')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the actual over the base batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint, by default the latest one in the work dir',
    )
    parser.add_argument(
        '--log-to',
        nargs='+',
        default=(),
        choices=BACKENDS,
        help='log there too, besides the work dir',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='begin with random weights instead of those that the config names: nothing is '
        'downloaded, no layer is frozen, and the backbone has the full learning rate',
    )
    add_data_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from mmdet_vanilla.utils.apply_data import apply_data, load_data_arguments
    from mmdet_vanilla.utils.checkpoint import latest_checkpoint
    from mmdet_vanilla.utils.preflight import (
        PreflightError,
        check_amp_device,
        check_data_files,
        enable_amp,
        load_config,
        merge_cfg_options,
        prepare_cpu_processes,
        require_file,
    )
    from mmdet_vanilla.utils.pretrained import prepare_initial_weights, skip_pretrained

    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args.config)
    data = load_data_arguments(args, ('train', 'val', 'test'))
    if data:
        apply_data(cfg, data)
    # Also in configs of others; before the options, by which it can be switched off.
    cfg.setdefault('default_hooks', {}).setdefault(
        'initial_weights', dict(type='InitialWeightsHook')
    )
    merge_cfg_options(cfg, args.cfg_options, args.config)
    apply_run_arguments(cfg, args)
    add_vis_backends(cfg, args.log_to)
    if args.amp:
        enable_amp(cfg)
    check_amp_device(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise PreflightError(
                f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {args.config}.'
            )
        cfg.auto_scale_lr.enable = True
    latest = latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
    # Interrupted before its first checkpoint, a training begins as it did.
    source = latest or cfg.get('load_from')
    if latest and latest.endswith('.safetensors'):
        raise PreflightError(
            f'{latest} holds weights alone, from which no training can be resumed: give the .pth '
            'beside it, or begin anew from these weights (--cfg-options load_from=...).'
        )
    # DeepSpeed's checkpoints are folders.
    if source and '://' not in source and not os.path.isdir(source):
        require_file(source, 'checkpoint')
    check_data_files(cfg, ('train', 'val'))
    resumed = latest or (cfg.get('resume') and latest_checkpoint(cfg.work_dir))
    changes = prepare_initial_weights(cfg, bool(resumed), args.from_scratch)
    prepare_cpu_processes(cfg)

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if changes:
        runner.logger.info(f'Random weights to begin with: {"; ".join(changes)}.')
    if latest:
        # Not in the config, whose copy in the work dir would then begin nothing but resume this.
        runner._resume, runner._load_from = True, latest
    if runner._load_from:
        skip_pretrained(runner.model)
    runner.train()


if __name__ == '__main__':
    run(parse_args, main)
