"""Images of every kind are read as a person sees them, or refused with a reason."""

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from odd_images import BOX, SIZE, bad_images, good_images, scene, strange_shapes
from PIL import Image

from mmdet_vanilla.utils.images import (
    MAX_PIXELS_VARIABLE,
    ImageError,
    check_array,
    image_size,
    read_image,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('images')


def test_every_kind_shows_the_scene(folder):
    grey_scene = cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY).astype(int)
    names = good_images(folder)
    assert len(names) >= 17
    for name in names:
        image = read_image(folder / name)
        assert image.shape == (SIZE[1], SIZE[0], 3) and image.dtype == np.uint8, name
        assert image.flags.c_contiguous, name
        assert image_size(folder / name) == SIZE, name
        x1, y1, x2, y2 = BOX
        inside = image[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].mean((0, 1))
        outside = image[40:55, 5:30].mean((0, 1))
        if name == 'one_bit.png':  # dithered
            assert 60 < outside.mean() < 120
        elif 'grey' in name or '16bit' in name:
            assert np.abs(inside - grey_scene[20, 50]).max() < 8, name
            assert np.abs(outside - 90).max() < 8, name
        else:
            assert np.abs(inside - (20, 20, 230)).max() < 25, name
            assert np.abs(outside - 90).max() < 8, name


def test_boxes_drawn_on_the_pixels_as_they_are_stored(folder):
    good_images(folder)
    path = folder / 'exif.jpg'
    assert read_image(path, (100, 60)).shape == (60, 100, 3)
    stored = read_image(path, (60, 100))
    assert stored.shape == (100, 60, 3)
    upright = stored.swapaxes(0, 1)[:, ::-1]
    np.testing.assert_array_equal(upright, read_image(path))
    assert read_image(path, (1, 1)).shape == (60, 100, 3)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_all_orientations_as_pillow_turns_them(tmp_path, orientation, suffix):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'image.{suffix}'
    Image.fromarray(scene()).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))[..., ::-1]
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 3


def test_strange_shapes(tmp_path):
    for name, (width, height) in strange_shapes(tmp_path).items():
        assert read_image(tmp_path / name).shape == (height, width, 3)


def test_bad_images_are_refused(tmp_path):
    for name, part in bad_images(tmp_path).items():
        with pytest.raises(ImageError, match=part) as info:
            read_image(tmp_path / name)
        assert name in str(info.value)


def test_limit_can_be_raised(tmp_path, monkeypatch):
    Image.new('RGB', (60, 50)).save(tmp_path / 'a.png')
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, '2999')
    with pytest.raises(ImageError, match=r'60 x 50 pixels.*=3000'):
        read_image(tmp_path / 'a.png')
    with pytest.raises(ImageError, match='60 x 50'):
        image_size(tmp_path / 'a.png')
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, '3000')
    assert read_image(tmp_path / 'a.png').shape == (50, 60, 3)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, 'many')
    with pytest.raises(ImageError, match='positive integer'):
        read_image(tmp_path / 'a.png')


@pytest.mark.slow
def test_gigantic_image_with_the_limit_raised(tmp_path, monkeypatch):
    bad_images(tmp_path)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(12000**2))
    assert read_image(tmp_path / 'gigantic.png').shape == (12000, 12000, 3)


def test_arrays():
    image = scene()
    for array in (image, image[..., 0], image[..., :1], np.dstack([image, image[..., :1]])):
        assert check_array(array).shape == image.shape
    assert check_array(image.astype(np.float32)).dtype == np.float32
    bad = image.astype(np.float32)
    bad[3, 4, 0] = np.nan
    with pytest.raises(ImageError, match='finite'):
        check_array(bad)
    for array, part in (
        (np.full((4, 4, 3), np.inf), 'finite'),
        (np.full((4, 4, 3), 300), '0..255'),
        (np.full((4, 4, 3), -1), '0..255'),
        (np.zeros((4, 4, 2), np.uint8), 'shape'),
        (np.zeros((0, 4, 3), np.uint8), 'shape'),
        (np.zeros(5, np.uint8), 'shape'),
        (np.zeros((4, 4, 3), bool), 'bool'),
        (np.full((4, 4, 3), 'a'), 'holds'),
    ):
        with pytest.raises(ImageError, match=part):
            check_array(array)


def test_all_loaders_are_ours(tmp_path):
    """What configs, inference_detector and DetInferencer name goes through the same code."""
    Image.fromarray(scene()).save(tmp_path / 'a.png')
    path = str(tmp_path / 'a.png')
    nan = np.full((4, 4, 3), np.nan)
    for kind in ('LoadImageFromFile', 'mmdet.InferencerLoader'):
        loader = TRANSFORMS.build(dict(type=kind))
        found = loader(dict(img_path=path))
        np.testing.assert_array_equal(found['img'], scene()[..., ::-1])
        assert found['img_shape'] == found['ori_shape'] == (60, 100)
        with pytest.raises(ImageError, match='there is no image'):
            loader(dict(img_path=path + 'x'))
    assert (
        TRANSFORMS.build(dict(type='LoadImageFromFile', ignore_empty=True))(
            dict(img_path=path + 'x')
        )
        is None
    )
    for kind in ('mmdet.LoadImageFromNDArray', 'mmdet.InferencerLoader'):
        with pytest.raises(ImageError, match='finite'):
            TRANSFORMS.build(dict(type=kind))(dict(img=nan))
