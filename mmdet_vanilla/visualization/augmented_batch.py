"""A training batch as the model sees it, drawn without a trace in the training."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .draw_instances import draw_instances
from .grid import grid


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Gives Python's, numpy's and torch's random numbers their state back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@torch.no_grad()
def augment_batch(data_batch: Mapping, preprocessor: nn.Module) -> dict:
    """Preprocesses a batch for training as the next training step will do.

    Neither the batch nor the preprocessor (some batch augmentations count calls) nor any random
    state is changed. In distributed training every process has to call this, since batch
    augmentations may exchange sizes between processes.

    Args:
        data_batch: Batch of the data loader.
        preprocessor: Data preprocessor of the model.

    Returns:
        ``inputs`` (B, 3, H, W) and ``data_samples``.
    """
    with kept_random_state():
        return copy.deepcopy(preprocessor)(copy.deepcopy(data_batch), training=True)


def denormalize(inputs: torch.Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Undoes the normalisation of ``DetDataPreprocessor``.

    Args:
        inputs: Preprocessed images (B, 3, H, W).
        preprocessor: What preprocessed them. Where it exchanges channels they are taken to be RGB
            now, where it does not BGR, since mmcv loads BGR.

    Returns:
        RGB images (B, H, W, 3), uint8.
    """
    inputs = inputs.detach()
    if getattr(preprocessor, '_enable_normalize', False):
        inputs = inputs * preprocessor.std + preprocessor.mean
    if not getattr(preprocessor, '_channel_conversion', False):
        inputs = inputs.flip(1)
    return inputs.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def draw_augmented_batch(
    batch: Mapping,
    preprocessor: nn.Module,
    dataset_meta: Mapping,
    num_images: int = 16,
    columns: int = 4,
    size: int = 320,
) -> np.ndarray:
    """Draws the images of a preprocessed batch with their boxes.

    Args:
        batch: Return value of :func:`augment_batch`.
        preprocessor: Data preprocessor of the model.
        dataset_meta: ``classes``, and ``palette`` if the classes have colours of their own.
        num_images: Most images to draw.
        columns: Images in a row.
        size: Longer side of every picture in pixels.

    Returns:
        RGB picture, uint8.
    """
    samples = batch['data_samples'][:num_images]
    images = denormalize(batch['inputs'][:num_images], preprocessor)
    pictures, captions = [], []
    for image, sample in zip(images, samples):
        pictures.append(draw_instances(image, sample.gt_instances, dataset_meta, size))
        height, width = image.shape[:2]
        name = Path(sample.get('img_path') or '').name
        captions.append(f'{name}  {width}x{height}, boxes: {len(sample.gt_instances)}'.strip())
    return grid(pictures, columns, captions)
