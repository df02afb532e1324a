"""Latency of a backbone and a detector in PyTorch, ONNX Runtime and OpenVINO, in one run.

Example:
    python tools/benchmark_runtimes.py --arch 6 --config configs/rtdetr_r18vd_coco.py
"""

import argparse
import datetime
import importlib.util
import json
import platform
import tempfile
from pathlib import Path

import torch

import mmdet_vanilla  # noqa: F401
from mmdet_vanilla.benchmark.runtimes import (
    backbone_functions,
    detector_functions,
    sgemm_functions,
    transformers_function,
)
from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.cli import run
from mmdet_vanilla.utils.preflight import load_config
from mmdet_vanilla.utils.timing import median, time_interleaved


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', default='6', help='VanillaNet of the backbone')
    parser.add_argument('--config', default='configs/rtdetr_r18vd_coco.py', help='of the detector')
    parser.add_argument('--size', type=int, default=640, help='side of the square image')
    parser.add_argument('--rounds', type=int, default=15, help='timed calls of each')
    parser.add_argument('--json', type=Path, help='file to write the figures to')
    return parser.parse_args()


def backbone_gflop(arch: str, size: int) -> float:
    """Floating-point operations of the fused backbone, two per multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    model = VanillaNet(arch, deploy=True).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    products, gflop = sgemm_functions()
    # The best round, before other runtimes' threads wait beside PyTorch's: the machine's limit.
    limit = time_interleaved(products, args.rounds)
    sgemm = {name: gflop / min(values) for name, values in limit.items()}
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            f'VanillaNet-{args.arch}, backbone': backbone_functions(
                args.arch, args.size, Path(folder)
            ),
            Path(args.config).stem: detector_functions(cfg, args.size, Path(folder)),
        }
        if importlib.util.find_spec('transformers'):
            groups[Path(args.config).stem]['transformers R18, eager'] = transformers_function(
                args.size
            )
        functions = {
            (group, name): function
            for group, members in groups.items()
            for name, function in members.items()
        }
        seconds = time_interleaved(functions, args.rounds)
    milliseconds = {key: median(values) for key, values in seconds.items()}
    print(
        f'One image of {args.size}x{args.size}, float32, {torch.get_num_threads()} threads, '
        f'{platform.machine()}, torch {torch.__version__}, sgemm {sgemm["mm"]:.0f} GFLOP/s by '
        f'torch.mm and {sgemm["conv"]:.0f} as a 1x1 convolution, {datetime.date.today()}\n'
    )
    rate = backbone_gflop(args.arch, args.size)
    print('| network | runtime | median ms | of PyTorch | of transformers | of mm | of conv |')
    print('|---|---|---|---|---|---|---|')
    for group, members in groups.items():
        base = milliseconds[group, 'pytorch']
        peer = milliseconds.get((group, 'transformers R18, eager'))
        for name in members:
            ms = milliseconds[group, name]
            of_peer = f'{ms / peer:.2f}' if peer else ''
            shares = [f'{rate / ms * 1e3 / v:.2f}' for v in sgemm.values()]
            cells = [group, name, f'{ms:.1f}', f'{ms / base:.2f}', of_peer]
            cells += shares if 'backbone' in group else ['', '']
            print(f'| {" | ".join(cells)} |')
    if args.json:
        content = {f'{group}/{name}': values for (group, name), values in seconds.items()}
        args.json.write_text(json.dumps(content, indent=2) + '\n')


if __name__ == '__main__':
    run(main)
