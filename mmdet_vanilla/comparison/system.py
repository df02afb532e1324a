"""On what a comparison was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

# By import name, what distributions may bring it.
_PACKAGES = {
    'mmdet_vanilla': ('mmdet_vanilla',),
    'torch': ('torch',),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'numpy': ('numpy',),
    'pycocotools': ('pycocotools',),
    'onnxruntime': ('onnxruntime',),
    'openvino': ('openvino',),
}


def hardware(device: str, threads: int) -> dict[str, str | int]:
    """The machine, and what of it is used."""
    found = dict(
        device=device,
        processor=_processor(),
        architecture=platform.machine(),
        cores=_cores(),
        threads=threads,
    )
    memory = _memory_bytes()
    if memory:
        found['memory_gigabytes'] = round(memory / 1e9, 1)
    if device.startswith('cuda'):
        found['accelerator'] = torch.cuda.get_device_name(device)
    return found


def software() -> dict[str, str]:
    """Versions by name; the distribution is named where there are several."""
    versions = dict(python=platform.python_version(), system=platform.system())
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                version = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            same = distribution.lower().replace('-', '_') == name
            versions[name] = version if same else f'{version} ({distribution})'
            break
    return versions


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or 'unknown'
    names = (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.processor() or 'unknown')


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (ValueError, OSError, AttributeError):
        return None
