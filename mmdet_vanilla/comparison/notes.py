"""Under which conditions the figures of a comparison hold, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import Comparison


def notes(comparison: Comparison, rows: Sequence[dict]) -> list[str]:
    """What whoever reads the figures has to know.

    Args:
        comparison: What was done.
        rows: Its rows.
    """
    settings = comparison.settings
    found = [_latency(settings.num_threads), _decoding(settings.time_decoding)]
    found += [_memory(settings.device), _MACS]
    if settings.img_scale:
        found.append(
            f'All images were forced to {settings.img_scale}x{settings.img_scale}; detectors that '
            'keep the ratio of sides got the rest padded.'
        )
    else:
        found.append("Every detector got images in its own size, by its config's pipeline.")
    uncounted = [
        f'{name}: {", ".join(state.profile["uncounted"])}'
        for name, state in comparison.states.items()
        if state.profile and state.profile['uncounted']
    ]
    if uncounted:
        found.append(f'Operators that the counter does not know: {"; ".join(uncounted)}.')
    if any(row['weights'] == 'random' for row in rows):
        found.append(
            'AP is filled only where there are real weights (config::checkpoint, an exported file, '
            'or --train). Random weights cost the network the same; NMS gets other candidates than '
            'with trained ones.'
        )
    if comparison.split:
        intervals = (
            f'; intervals: {settings.resamples} bootstrap resamples of the images, 95 %'
            if settings.resamples
            else ''
        )
        found.append(
            f'AP: pycocotools on {len(comparison.split.content["images"])} images of '
            f'{comparison.split.ann_file.name}, the same for all{intervals}.'
        )
    if comparison.unreadable:
        names = list(comparison.unreadable.values())
        found.append(
            f'{len(names)} images could not be read and were left out: {", ".join(names[:20])}'
            + (', ...' if len(names) > 20 else '.')
        )
    found += _training(comparison)
    if len(comparison.sessions) > 1:
        found.append(
            f'Measured in {len(comparison.sessions)} sessions, each with rounds of its own.'
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
    for name, training in comparison.training.items():
        if training['changes']:
            found.append(f'{name}: {"; ".join(training["changes"])}.')
    return found
