import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS

from mmdet_vanilla.datasets.transforms.photometric_distort import Distortion, distort

factors = st.floats(0.5, 1.5)
distortions = st.builds(
    Distortion,
    brightness=st.none() | st.floats(0.875, 1.125),
    contrast=st.none() | factors,
    saturation=st.none() | factors,
    hue=st.none() | st.floats(-0.05, 0.05),
    contrast_first=st.booleans(),
    channels=st.none() | st.permutations(range(3)).map(tuple),
)


def colours(seed=0, shape=(9, 7, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey_of(img):
    return img @ np.array([0.114, 0.587, 0.299])  # BGR


@settings(max_examples=40, deadline=None, derandomize=True)
@given(distortions, st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
def test_uint8_in_and_out_and_the_input_stays(distortion, seed, height, width):
    img = colours(seed, (height, width, 3))
    before = img.copy()
    out = distort(img, distortion)
    assert out.dtype == np.uint8 and out.shape == img.shape and out.flags.c_contiguous
    np.testing.assert_array_equal(img, before)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(factors, st.floats(-0.5, 0.5), st.integers(0, 9))
def test_hue_and_saturation_leave_grey_unchanged(saturation, hue, seed):
    img = np.repeat(colours(seed, (9, 7, 1)), 3, axis=2)
    np.testing.assert_array_equal(distort(img, Distortion(saturation=saturation, hue=hue)), img)


def test_identity_factors_change_nothing():
    img = colours()
    for first in (False, True):
        same = Distortion(1.0, 1.0, 1.0, 0.0, first, (0, 1, 2))
        np.testing.assert_array_equal(distort(img, same), img)
    np.testing.assert_array_equal(distort(img, Distortion()), img)


@pytest.mark.parametrize('factor', [0.5, 0.9, 1.5])
def test_each_blend_against_its_definition(factor):
    img = colours()
    grey = grey_of(img)
    other = dict(brightness=0.0, contrast=grey.mean(), saturation=grey[..., None])
    for step, background in other.items():
        expected = np.clip(factor * img + (1 - factor) * background, 0, 255)
        out = distort(img, Distortion(**{step: factor}))
        # The grey image is rounded to uint8 before it is blended in.
        np.testing.assert_allclose(out, expected, atol=1.01)


def test_hue_turns_the_circle_and_channels_are_reordered():
    blue, green, red = np.eye(3, dtype=np.uint8) * 200
    img = np.stack([blue, green, red])[None]
    np.testing.assert_array_equal(
        distort(img, Distortion(hue=1 / 3))[0], np.stack([red, blue, green])
    )
    np.testing.assert_array_equal(distort(img, Distortion(channels=(2, 0, 1))), img[..., [2, 0, 1]])


def test_contrast_is_once_before_or_after():
    img = colours()
    both = dict(contrast=1.5, saturation=0.5)
    first = distort(distort(img, Distortion(contrast=1.5)), Distortion(saturation=0.5))
    last = distort(distort(img, Distortion(saturation=0.5)), Distortion(contrast=1.5))
    assert (first != last).any()
    np.testing.assert_array_equal(distort(img, Distortion(**both, contrast_first=True)), first)
    np.testing.assert_array_equal(distort(img, Distortion(**both)), last)


def test_every_step_has_its_own_probability_and_range():
    transform = TRANSFORMS.build(dict(type='RandomPhotometricDistort'))
    n = 4000
    drawn = [transform._random_distortion() for _ in range(n)]
    happened = np.array([[value is not None for value in d[:4] + d[5:]] for d in drawn])
    # Four standard deviations of a mean of n; for pairs, independence.
    assert abs(happened.mean(0) - 0.5).max() < 4 * 0.5 / n**0.5
    pairs = happened.astype(float).T @ happened / n
    assert abs(pairs[~np.eye(5, dtype=bool)] - 0.25).max() < 4 * 0.45 / n**0.5
    assert abs(np.mean([d.contrast_first for d in drawn]) - 0.5) < 4 * 0.5 / n**0.5
    ranges = [(0.875, 1.125), (0.5, 1.5), (0.5, 1.5), (-0.05, 0.05)]
    for i, (low, high) in enumerate(ranges):
        values = np.array([d[i] for d in drawn if d[i] is not None])
        assert low <= values.min() and values.max() <= high
        counts = np.histogram(values, 10, (low, high))[0]
        expected = len(values) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 d.o.f., p = 0.001
    orders = [d.channels for d in drawn if d.channels is not None]
    assert len(set(orders)) == 6


def test_probability_zero_and_one():
    img = colours()
    never = TRANSFORMS.build(dict(type='RandomPhotometricDistort', prob=0.0))
    np.testing.assert_array_equal(never(dict(img=img))['img'], img)
    always = TRANSFORMS.build(dict(type='RandomPhotometricDistort', prob=1.0))
    assert None not in always._random_distortion()
    assert 'hue=(-0.05, 0.05)' in repr(always)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(prob=1.5), r'prob is 1\.5'),
        (dict(contrast=(1.5, 0.5)), r'contrast is \(1\.5, 0\.5\)'),
        (dict(brightness=(-1, 1)), 'brightness is'),
        (dict(hue=(-18, 18)), 'hue is'),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='RandomPhotometricDistort', **arguments))


@pytest.mark.parametrize('img', [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)])
def test_other_images_are_refused(img):
    transform = TRANSFORMS.build(dict(type='RandomPhotometricDistort'))
    with pytest.raises(ValueError, match='expected uint8'):
        transform(dict(img=img))
