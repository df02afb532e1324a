"""What the machine can do at best, measured in the same run as what is compared with it."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from mmdet_vanilla.utils.timing import Run, time_interleaved

PACKAGES = ('torch', 'transformers', 'onnxruntime', 'openvino')


@dataclass(frozen=True)
class Machine:
    """Limits of a machine.

    Attributes:
        mm: GFLOP/s of a float32 matrix product by ``torch.mm``.
        conv: GFLOP/s of the same product as a 1x1 convolution.
        copy: GB/s of a copy in memory, read and written bytes added.
        threads: Of PyTorch.
        versions: By package, of those that are installed.
        date: Of the measurement.
    """

    mm: float
    conv: float
    copy: float
    threads: int = field(default_factory=torch.get_num_threads)
    versions: dict[str, str] = field(default_factory=lambda: versions(PACKAGES))
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def __str__(self) -> str:
        packages = ', '.join(f'{name} {version}' for name, version in self.versions.items())
        return (
            f'{platform.machine()}, {self.threads} threads, '
            f'sgemm {self.mm:.0f} GFLOP/s by torch.mm '
            f'and {self.conv:.0f} as a 1x1 convolution, memory {self.copy:.0f} GB/s, '
            f'{packages}, {self.date}'
        )

    def to_dict(self) -> dict:
        """For a JSON file."""
        return asdict(self)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def sgemm_functions(n: int = 2048) -> tuple[dict[str, Run], float]:
    """The machine's measure: a float32 matrix product of n x n.

    Args:
        n: Side of the matrices.

    Returns:
        By library, what to time, and its GFLOP. PyTorch multiplies by MKL, which uses half the
        width of other makers' vector units; as a 1x1 convolution oneDNN computes the same product.
    """
    a, b = torch.rand(n, n), torch.rand(n, n)
    pixels = b.T.reshape(1, n, 1, n).permute(0, 3, 1, 2)  # channels last
    kernel = a.reshape(n, n, 1, 1)
    functions = dict(
        mm=torch.inference_mode()(lambda: a @ b),
        conv=torch.inference_mode()(lambda: nn.functional.conv2d(pixels, kernel)),
    )
    return functions, 2 * n**3 / 1e9


def measure_machine(n: int = 2048, megabytes: int = 256, rounds: int = 10) -> Machine:
    """Measures the limits; the best round counts.

    Args:
        n: Side of the matrices.
        megabytes: Size of the copied array, to be well above the caches.
        rounds: Timed calls of each.

    Returns:
        The limits.
    """
    functions, gflop = sgemm_functions(n)
    source = torch.rand(megabytes * 2**18)
    target = torch.empty_like(source)
    functions['copy'] = lambda: target.copy_(source)
    best = {name: min(values) for name, values in time_interleaved(functions, rounds).items()}
    return Machine(
        mm=gflop / best['mm'],
        conv=gflop / best['conv'],
        copy=2 * source.nbytes / best['copy'] / 1e9,
    )
