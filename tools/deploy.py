"""Export a checkpoint for a runtime, and prove that it computes what the PyTorch model computes.

Example:
    python tools/deploy.py configs/rtdetr_r18vd_coco.py r18.pth --image street.jpg \
        --deploy-config configs/deploy/onnxruntime_dynamic.py --work-dir work_dirs/r18_onnx
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmdet_vanilla.utils.arguments import add_cfg_options, add_data_arguments
from mmdet_vanilla.utils.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--deploy-config', required=True, help='one of configs/deploy')
    parser.add_argument('--work-dir', type=Path, required=True, help='folder of the artefact')
    parser.add_argument(
        '--image', nargs='+', default=(), help='images, or folders of them, to verify with'
    )
    parser.add_argument(
        '--calibration',
        nargs='+',
        default=(),
        help='images, or folders of them, to calibrate 8 bits with; default: those to verify with',
    )
    parser.add_argument('--most', type=int, default=16, help='images to verify with at most')
    parser.add_argument('--rounds', type=int, default=5, help='timed calls')
    parser.add_argument('--dump-info', action='store_true', help="write mmdeploy's SDK files too")
    # Verifies with its images then, and evaluates both models.
    add_data_arguments(parser, ('val', 'test'))
    add_cfg_options(parser)
    return parser.parse_args()


def list_images(paths: list[str]) -> list[str]:
    from mmdet_vanilla.utils.images import SUFFIXES
    from mmdet_vanilla.utils.preflight import PreflightError, require_file

    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise PreflightError(f'no image in {path} ({", ".join(SUFFIXES)}).')
            found += inside
        else:
            found.append(require_file(path, 'image'))
    return [str(path) for path in found]


def main(args: argparse.Namespace) -> None:
    from mmengine.config import Config

    from mmdet_vanilla.utils.apply_data import apply_data, load_data_arguments
    from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
    from mmdet_vanilla.utils.classes import apply_checkpoint_classes
    from mmdet_vanilla.utils.preflight import (
        load_config,
        merge_cfg_options,
        require_file,
    )

    cfg = load_config(args.config)
    require_file(args.deploy_config, 'deploy config', 'There are some in configs/deploy.')
    if '://' not in args.checkpoint:
        require_file(args.checkpoint, 'checkpoint')
    classes = apply_checkpoint_classes(cfg, fetch_checkpoint(args.checkpoint))
    images = list_images(args.image)
    data = load_data_arguments(args, ('test',), classes)
    if data:
        apply_data(cfg, data)
        images = images or data.splits['test'].image_paths()
    merge_cfg_options(cfg, args.cfg_options, args.config)
    deploy_cfg = Config.fromfile(args.deploy_config)

    from mmdet_vanilla.deploy.ship import ship

    report = ship(
        cfg,
        args.checkpoint,
        deploy_cfg,
        args.work_dir,
        images[: args.most],
        calibration=list_images(args.calibration),
        evaluate=args.data is not None,
        rounds=args.rounds,
    )
    if args.dump_info:
        from mmdeploy.backend.sdk.export_info import export2SDK

        export2SDK(deploy_cfg, cfg, str(args.work_dir), pth=args.checkpoint, device='cpu')
    Console().print(table_of(report))
    if not report.passed:
        print(f'error: not verified, see {args.work_dir}/verify.json', file=sys.stderr)
        sys.exit(1)


def table_of(report) -> Table:
    verified, tolerance = report.verification, report.verification.tolerance
    table = Table('what', 'found', 'tolerated', title=report.file)
    rows = [
        ('made for', report.backend, ''),
        ('verified on', f'{report.runtime} {report.versions[report.runtime]}', ''),
        ('precision', report.precision, ''),
        ('size', f'{report.megabytes:.1f} MB', ''),
        ('nodes', str(report.num_nodes or '-'), ''),
        ('custom operators', ', '.join(report.custom_operators) or 'none', 'none'),
        ('images', str(verified.num_images), ''),
        (
            f'detections above {tolerance.least_score}',
            str(verified.num_detections),
            'at least 1',
        ),
        (
            'without a partner, other label',
            f'{verified.num_unmatched}, {verified.num_labels}',
            '',
        ),
        ('largest difference of a score', f'{verified.score:.2g}', f'{tolerance.score:g}'),
        (
            'largest difference of a box',
            f'{verified.box:.2g} px',
            f'{tolerance.box:g} px at 640',
        ),
    ]
    rows.append(
        (
            'detections that differ by more',
            str(verified.num_outliers),
            f'{tolerance.outliers:.0%} of them',
        )
    )
    for name, milliseconds in report.milliseconds.items():
        rows.append((f'one image, {name}', f'{milliseconds:.1f} ms', ''))
    if report.ap:
        difference = report.ap['exported'] - report.ap['pytorch']
        rows.append(('AP, PyTorch', f'{report.ap["pytorch"]:.2f}', ''))
        exported = f'{report.ap["exported"]:.2f} ({difference:+.3f})'
        rows.append(('AP, exported', exported, f'{tolerance.ap:g}'))
    rows.append(('verified', 'yes' if report.passed else 'NO', ''))
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == '__main__':
    run(parse_args, main)
