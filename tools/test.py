"""Evaluate a checkpoint.

Example:
    python tools/test.py configs/rtdetr_vanillanet6_coco.py work_dirs/.../epoch_72.pth --fuse
"""

import argparse

from mmdet_vanilla.utils.arguments import add_data_arguments, add_run_arguments
from mmdet_vanilla.utils.cli import apply_run_arguments, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--fuse', action='store_true', help='evaluate the fused (deploy) form')
    parser.add_argument('--tta', action='store_true', help='augment the test images')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the detections to a pickle file')
    parser.add_argument('--show', action='store_true', help='show the detections in windows')
    parser.add_argument('--show-dir', help='folder for pictures of the detections')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between two windows')
    add_data_arguments(parser, ('val', 'test'))
    add_run_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmdet.engine.hooks.utils import trigger_visualization_hook
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from mmdet_vanilla.utils.apply_data import apply_data, load_data_arguments
    from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
    from mmdet_vanilla.utils.classes import apply_checkpoint_classes
    from mmdet_vanilla.utils.preflight import (
        PreflightError,
        check_data_files,
        load_config,
        merge_cfg_options,
        prepare_cpu_processes,
        require_file,
    )
    from mmdet_vanilla.utils.pretrained import skip_pretrained

    setup_cache_size_limit_of_dynamo()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise PreflightError(f'--out {args.out}: the file must end in .pkl or .pickle.')
    cfg = load_config(args.config)
    if '://' not in args.checkpoint:
        require_file(args.checkpoint, 'checkpoint')
    checkpoint = fetch_checkpoint(args.checkpoint)
    classes = apply_checkpoint_classes(cfg, checkpoint)
    data = load_data_arguments(args, ('test',), classes)
    if data:
        apply_data(cfg, data)
    merge_cfg_options(cfg, args.cfg_options, args.config)
    apply_run_arguments(cfg, args)
    check_data_files(cfg, ('test',))
    prepare_cpu_processes(cfg)
    cfg.load_from = args.checkpoint
    cfg.resume = False  # the copy of a resumed training's config may say otherwise
    # A checkpoint's weights are the averaged ones already; EMAHook would keep a second, unfused
    # model and exchange tensors with it.
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'EMAHook']
    cfg.custom_hooks = hooks + ([dict(type='SwitchToDeployHook')] if args.fuse else [])
    if args.tta:
        if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
            raise PreflightError(f'--tta needs tta_model and tta_pipeline in {args.config}.')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    skip_pretrained(runner.model)  # which FlexibleRunner would load before the checkpoint
    if args.out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    run(parse_args, main)
