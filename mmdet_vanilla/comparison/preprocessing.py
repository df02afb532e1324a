"""Each detector's own preprocessing, in two parts: decoding an image, and the rest."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmdet_vanilla.utils.config_types import kind_of

from .errors import ComparisonError


def own_pipeline(cfg: Config) -> list[dict]:
    """The test pipeline of a config.

    Raises:
        ComparisonError: If it has none that begins by reading an image file.
    """
    if cfg.get('test_dataloader'):
        steps = get_test_pipeline_cfg(cfg)
    else:
        steps = cfg.get('test_pipeline') or []
    if not steps or kind_of(steps[0]) != 'LoadImageFromFile':
        raise ComparisonError(
            f'{cfg.filename}: expected a test pipeline that begins with LoadImageFromFile, in '
            'test_dataloader.dataset.pipeline or test_pipeline.'
        )
    return copy.deepcopy(list(steps))


def force_size(steps: Sequence[dict], side: int, pad_value: Sequence[float]) -> list[dict]:
    """Makes a pipeline produce squares.

    A pipeline that stretches still does, one that keeps the ratio still does and pads what is left.

    Args:
        steps: Configs of transforms.
        side: Of the square, pixels.
        pad_value: Of the channels, in the order of the file, 0..255.

    Returns:
        Changed copies.

    Raises:
        ComparisonError: If the pipeline has not exactly one Resize.
    """
    steps = copy.deepcopy(list(steps))
    resizes = [i for i, step in enumerate(steps) if kind_of(step) == 'Resize']
    if len(resizes) != 1:
        raise ComparisonError(
            f'--img-scale needs a test pipeline with one Resize, this one has {len(resizes)}.'
        )
    resize = steps[resizes[0]]
    resize.pop('scale_factor', None)
    resize['scale'] = (side, side)
    if resize.get('keep_ratio'):
        pads = [step for step in steps if kind_of(step) == 'Pad']
        if not pads:
            pads = [dict(type='Pad', pad_val=dict(img=tuple(pad_value)))]
            steps.insert(resizes[0] + 1, pads[0])
        pads[0].pop('size_divisor', None)
        pads[0].pop('pad_to_square', None)
        pads[0]['size'] = (side, side)
    return steps


class Preprocessing:
    """The transforms of a test pipeline, without annotations.

    Args:
        steps: Configs of the transforms; the first one reads the file.
    """

    def __init__(self, steps: Sequence[dict]) -> None:
        steps = [dict(s) for s in steps if 'LoadAnnotations' not in kind_of(s)]
        steps[0].pop('backend_args', None)
        self._load = TRANSFORMS.build(steps[0])
        self._rest = Compose(steps[1:])

    def load(self, path: str, img_id: int = 0) -> dict:
        """Reads and decodes an image file.

        Raises:
            OSError: If it cannot be read.
        """
        try:
            results = self._load(dict(img_path=str(path), img_id=img_id))
        except Exception as error:  # decoders know no common one
            raise OSError(f'cannot read the image {path}: {error}') from None
        if results is None or results.get('img') is None:
            raise OSError(f'cannot read the image {path}.')
        return results

    def __call__(self, loaded: dict) -> dict:
        """``inputs`` (3, H, W), not yet normalised, and ``data_samples``."""
        return self._rest(dict(loaded))


def sample_image(height: int = 480, width: int = 640) -> np.ndarray:
    """A picture of coloured shapes on noise, where no real one is given (H, W, 3), BGR."""
    import cv2

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        radius = int(rng.integers(height // 24, height // 6))
        cv2.circle(image, (x, y), radius, tuple(map(int, rng.integers(0, 256, 3))), -1)
    return image
