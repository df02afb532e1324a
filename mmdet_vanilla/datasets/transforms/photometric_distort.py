"""Photometric distortion as RT-DETR trains with it (https://arxiv.org/abs/2304.08069)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from ...utils.ranges import check_probability, check_range


class Distortion(NamedTuple):
    """What is done to an image; None leaves a step out.

    Attributes:
        brightness: Factor, >= 0.
        contrast: Factor, >= 0.
        saturation: Factor, >= 0.
        hue: Shift in parts of the full circle, -0.5..0.5.
        contrast_first: Whether contrast precedes saturation and hue.
        channels: New order of the three channels.
    """

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    contrast_first: bool = False
    channels: tuple[int, ...] | None = None


def distort(img: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Applies a distortion: brightness, contrast, saturation, hue, order of the channels.

    Args:
        img: uint8 (H, W, 3) in BGR. Is not changed.
        distortion: What to do.

    Returns:
        uint8 (H, W, 3) in BGR, rounded and clipped after every step.
    """
    if distortion.brightness is not None:
        img = _blend_with_level(img, distortion.brightness, 0.0)
    if distortion.contrast is not None and distortion.contrast_first:
        img = _adjust_contrast(img, distortion.contrast)
    if distortion.saturation is not None:
        img = _adjust_saturation(img, distortion.saturation)
    if distortion.hue is not None:
        img = _shift_hue(img, distortion.hue)
    if distortion.contrast is not None and not distortion.contrast_first:
        img = _adjust_contrast(img, distortion.contrast)
    if distortion.channels is not None:
        planes = cv2.split(img)
        img = cv2.merge([planes[channel] for channel in distortion.channels])
    return img


def _blend_with_level(img: np.ndarray, factor: float, level: float) -> np.ndarray:
    table = factor * np.arange(256) + (1 - factor) * level
    return cv2.LUT(img, np.clip(np.rint(table), 0, 255).astype(np.uint8))


def _adjust_contrast(img: np.ndarray, factor: float) -> np.ndarray:
    return _blend_with_level(img, factor, cv2.mean(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY))[0])


def _adjust_saturation(img: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(img, factor, grey, 1 - factor, 0)


def _shift_hue(img: np.ndarray, shift: float) -> np.ndarray:
    # In float32: OpenCV's 8-bit HSV is as slow and loses up to eight levels there and back.
    hsv = cv2.cvtColor(img.astype(np.float32), cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
    return np.clip(np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)), 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class RandomPhotometricDistort(BaseTransform):
    """Distorts colours with the distribution of torchvision's ``v2.RandomPhotometricDistort``.

    RT-DETR's authors train with that one and its defaults. Each of the five steps happens with
    probability ``prob`` of its own; contrast comes before or after saturation and hue with
    probability 1/2 each. mmdet's ``PhotoMetricDistortion`` differs: brightness is added (up to 32
    levels), contrast blends with black rather than with the mean grey, saturation multiplies that
    of HSV, and nothing is clipped, so that its float32 images leave 0..255.

    Required keys: ``img`` (uint8, (H, W, 3), BGR). Modified keys: ``img``.

    Args:
        brightness: Range of the factor in the blend with black.
        contrast: Range of the factor in the blend with the mean of the grey image.
        saturation: Range of the factor in the blend with the grey image.
        hue: Range of the shift in HSV, in parts of the full circle, within -0.5..0.5.
        prob: Probability of each step, 0..1.

    Raises:
        ValueError: If an argument is out of range, or an image is not uint8 with three channels.
    """

    def __init__(
        self,
        brightness: Sequence[float] = (0.875, 1.125),
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: Sequence[float] = (-0.05, 0.05),
        prob: float = 0.5,
    ) -> None:
        self.brightness = check_range('brightness', brightness)
        self.contrast = check_range('contrast', contrast)
        self.saturation = check_range('saturation', saturation)
        self.hue = check_range('hue', hue, -0.5, 0.5)
        self.prob = check_probability('prob', prob)

    @cache_randomness
    def _random_distortion(self) -> Distortion:
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        factors = [
            np.random.uniform(*bounds) if np.random.random() < self.prob else None
            for bounds in ranges
        ]
        contrast_first = bool(np.random.random() < 0.5)
        channels = None
        if np.random.random() < self.prob:
            channels = tuple(np.random.permutation(3).tolist())
        return Distortion(*factors, contrast_first, channels)

    def transform(self, results: dict) -> dict:
        """Distorts ``results['img']``.

        Args:
            results: Of the pipeline.

        Returns:
            The same with another image.

        Raises:
            ValueError: If the image is not uint8 with three channels.
        """
        img = results['img']
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise ValueError(
                f'the image is {img.dtype} of shape {img.shape}, expected uint8 (H, W, 3); load it '
                "with to_float32=False and color_type='color', and normalise after this transform"
            )
        results['img'] = distort(img, self._random_distortion())
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast}, '
            f'saturation={self.saturation}, hue={self.hue}, prob={self.prob})'
        )
