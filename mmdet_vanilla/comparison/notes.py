"""Under which conditions the figures of a comparison hold, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmdet_vanilla.ops import using_stand_ins

if TYPE_CHECKING:
    from .compare import Comparison
    from .data import ComparisonData


def notes(comparison: Comparison, rows: Sequence[dict]) -> list[str]:
    """What whoever reads the figures has to know.

    Args:
        comparison: What was done.
        rows: Its rows.
    """
    settings = comparison.settings
    found = [_latency(settings.num_threads), _decoding(settings.time_decoding)]
    found += [_operators(), _memory(settings.device), _MACS]
    if settings.img_scale:
        found.append(
            f'All images were forced to {settings.img_scale}x{settings.img_scale}; detectors that '
            'keep the ratio of sides got the rest padded.'
        )
    else:
        found.append("Every detector got images in its own size, by its config's pipeline.")
    uncounted = [
        f'{entry.name}: {", ".join(entry.state.profile["uncounted"])}'
        for entry in comparison.entries
        if entry.state.profile and entry.state.profile['uncounted']
    ]
    if uncounted:
        found.append(f'Operators that the counter does not know: {"; ".join(uncounted)}.')
    if any(row['weights'] == 'random' for row in rows):
        found.append(
            'AP is filled only where there are real weights (config::checkpoint, an exported file, '
            'or --train). Random weights cost the network the same; NMS gets other candidates than '
            'with trained ones.'
        )
    if comparison.data:
        found += _data(comparison.data, settings.resamples)
    found += _training(comparison)
    if comparison.num_sessions > 1:
        found.append(f'Measured in {comparison.num_sessions} sessions, each with its own rounds.')
    return found


def _data(data: ComparisonData, resamples: int) -> list[str]:
    intervals = (
        f'; intervals: {resamples} bootstrap resamples of the images, 95 %' if resamples else ''
    )
    found = [
        f'AP: pycocotools on {len(data.split.content["images"])} images of '
        f'the {data.split.name} data, the same for all{intervals}.',
        *data.user_data.notes,
    ]
    names = data.unreadable
    if names:
        found.append(
            f'{len(names)} images could not be read and were left out: {", ".join(names[:20])}'
            + (', ...' if len(names) > 20 else '.')
        )
    return found


def _latency(threads: int) -> str:
    return (
        'Latency: rounds in which every detector runs once, in an order drawn anew for each, '
        f'in one process, {threads} threads, float32, an exported file in its own precision. '
        'Preprocessing is the test pipeline without annotations, and the data preprocessor; '
        "postprocessing is the heads' predict_by_feat (decoding of boxes, top-k, NMS, an RPN's "
        'too), and of an exported file what is left outside of it.'
    )


def _operators() -> str:
    served = (
        'in PyTorch, of mmdet_vanilla.ops, since mmcv is not compiled: compiled ones are faster'
        if using_stand_ins()
        else 'compiled with mmcv'
    )
    return (
        f"mmcv's operators (NMS, RoIAlign, deformable convolutions; none of them in RT-DETR) were "
        f'those {served}.'
    )


def _decoding(timed: bool) -> str:
    return (
        'Reading and decoding image files counts as preprocessing.'
        if timed
        else 'Reading and decoding image files is not counted.'
    )


def _memory(device: str) -> str:
    peak = (
        "the allocator's peak"
        if device.startswith('cuda')
        else 'the peak of resident memory, imported Python packages included'
    )
    return (
        'Memory and start-up: of a process of its own per detector, which detects on one image '
        f'three times. Memory is {peak}, while it detects. Start-up: from starting Python to the '
        'first detections, fusing included.'
    )


_MACS = (
    "MACs: convolutions, linear layers and matrix products, by mmengine's FlopAnalyzer, of one "
    'image at the input size of the first one; twice as many floating-point operations. Fused: '
    'branches merged and normalisations folded into convolutions, where the outputs stay the same.'
)


def _training(comparison: Comparison) -> list[str]:
    settings = comparison.settings
    if not settings.train:
        return []
    found = [
        f'Every detector was trained for {settings.train} on the train split from seed '
        f'{settings.seed}, by its own recipe (batch size, augmentation, optimizer), its schedule '
        'scaled to that length' + ('.' if settings.keep_init else ', without pre-trained weights.')
    ]
    for entry in comparison.entries:
        if entry.training and entry.training['changes']:
            found.append(f'{entry.name}: {"; ".join(entry.training["changes"])}.')
    return found
