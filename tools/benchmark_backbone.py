"""Time and memory of a VanillaNet backbone, training form against fused form, in one run.

Example:
    python tools/benchmark_backbone.py --arch 6 --size 640
"""

import argparse
import datetime
import functools
import platform

import torch

from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.timing import median, peak_memory, time_interleaved

FORMS = {
    'training form': dict(deploy=False),
    'fused': dict(deploy=True),
    'fused, channels-last': dict(deploy=True, channels_last=True),
}


def build(arch: str, size: int, deploy: bool, channels_last: bool = False):
    """A function that runs one image through the backbone."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = VanillaNet(arch, deploy=deploy).eval().to(memory_format=memory_format)
    image = torch.rand(1, 3, size, size).contiguous(memory_format=memory_format)
    return torch.inference_mode()(lambda: model(image))


def multiply_rate(n: int = 2048) -> float:
    """GFLOP/s of a float32 matrix product, what the machine can do at best."""
    a, b = torch.rand(n, n), torch.rand(n, n)
    seconds = time_interleaved({'sgemm': lambda: a @ b}, rounds=5)['sgemm']
    return 2 * n**3 / median(seconds) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', default='6', help='name of the VanillaNet')
    parser.add_argument('--size', type=int, default=640, help='side of the square image')
    parser.add_argument('--rounds', type=int, default=10, help='timed calls of each form')
    args = parser.parse_args()

    builders = {
        name: functools.partial(build, args.arch, args.size, **form) for name, form in FORMS.items()
    }
    memory = {name: peak_memory(builder) for name, builder in builders.items()}
    functions = {name: builder() for name, builder in builders.items()}
    with torch.inference_mode():
        seconds = time_interleaved(functions, args.rounds)
    print(
        f'VanillaNet-{args.arch}, one image of {args.size}x{args.size}, float32, CPU, '
        f'{torch.get_num_threads()} threads, torch {torch.__version__}, '
        f'{platform.machine()}, sgemm {multiply_rate():.0f} GFLOP/s, {datetime.date.today()}\n'
    )
    print('| form | median ms | of the training form | peak memory MB | of which the forward |')
    print('|---|---|---|---|---|')
    base = median(seconds['training form'])
    for name in FORMS:
        ms = median(seconds[name])
        before, after = memory[name]
        print(
            f'| {name} | {ms:.0f} | {ms / base:.2f} | {after / 2**20:.0f} | '
            f'{(after - before) / 2**20:.0f} |'
        )


if __name__ == '__main__':
    main()
