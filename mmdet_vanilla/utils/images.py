"""Reads image files of any kind to the 8-bit BGR arrays that detectors take, or says why not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import cv2
import numpy as np
import PIL
from PIL import Image

from .errors import UserError

MAX_PIXELS = 100_000_000
MAX_PIXELS_VARIABLE = 'MMDET_VANILLA_MAX_PIXELS'
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.avif')

_ORIENTATION_TAG = 0x0112
_JPEG_END = b'\xff\xd9'
# By EXIF's orientation: how the stored pixels are turned to be seen upright.
_UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


class ImageError(UserError, ValueError):
    """An image is missing, damaged, too large, or of a kind whose values have no fixed range."""


def max_pixels() -> int:
    """Most pixels of an image: the environment variable ``MMDET_VANILLA_MAX_PIXELS`` or 1e8.

    Raises:
        ImageError: If the variable is not a positive integer.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ImageError(f'{MAX_PIXELS_VARIABLE}={text}: expected a positive integer.')
    return int(text)


def check_pixels(width: int, height: int, name: str) -> None:
    """Refuses images above the limit.

    Raises:
        ImageError: If there are more than :func:`max_pixels`.
    """
    limit = max_pixels()
    if width * height > limit:
        raise ImageError(
            f'{name} has {width} x {height} pixels, more than the limit of {limit}: cut it into '
            f'tiles, or raise the limit by setting {MAX_PIXELS_VARIABLE}={width * height}.'
        )


def read_bytes(path: str | os.PathLike) -> bytes:
    """Contents of an image file.

    Raises:
        ImageError: If it cannot be read.
    """
    try:
        with open(path, 'rb') as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(f'there is no image {path}.') from None
    except (OSError, ValueError) as error:
        raise ImageError(f'the image {path} cannot be read: {error}.') from None


def read_image(
    path: str | os.PathLike, annotated_size: tuple[int, int] | None = None
) -> np.ndarray:
    """:func:`decode_image` of a file."""
    return decode_image(read_bytes(path), str(path), annotated_size)


def decode_image(
    content: bytes, name: str, annotated_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decodes an image as a person would see it.

    EXIF's orientation is applied, unless the annotations were made on the pixels as they are
    stored, which a rectangular image's annotated size tells. 16 bits are reduced to their upper 8,
    transparency is dropped, of an animation the first frame is taken. A truncated file is refused,
    where OpenCV alone would fill what is missing with grey.

    Args:
        content: Bytes of the file, in any format that Pillow reads.
        name: For messages.
        annotated_size: Width and height according to the annotations, if known.

    Returns:
        BGR image (H, W, 3), uint8.

    Raises:
        ImageError: If it is no image, is truncated, has more than :func:`max_pixels`, or holds
            floats or 32-bit integers, whose black and white nobody knows.
    """
    with _opened(content, name) as image:
        orientation = _orientation(image)
        upright = _upright_size(image.size, orientation)
        as_stored = annotated_size == image.size and annotated_size != upright
        array = _decode_jpeg(content, image) if image.format == 'JPEG' else None
        if array is None:
            array = _decode(image, name)
    if orientation in _UPRIGHT and not as_stored:
        array = _UPRIGHT[orientation](array)
    return np.ascontiguousarray(array)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Width and height of an image seen upright, from its header alone.

    Raises:
        ImageError: If the file has no header of an image, or more than :func:`max_pixels`.
    """
    with _opened(path, str(path)) as image:
        return _upright_size(image.size, _orientation(image))


def check_array(image: np.ndarray, name: str = 'the image') -> np.ndarray:
    """Checks an image that a program hands over.

    Args:
        image: (H, W, 3), or (H, W) or (H, W, 1) in grey, or (H, W, 4) with transparency. Integers
            or floats in 0..255.
        name: For the message.

    Returns:
        (H, W, 3), of the same type.

    Raises:
        ImageError: If it has another form, is empty, too large, or holds NaN, infinity or values
            outside of 0..255.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ImageError(
            f'{name} has the shape {np.shape(image)}: expected (height, width, 3), or 1 or 4 '
            'channels, and at least one pixel.'
        )
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ImageError(f'{name} holds {array.dtype}: expected uint8, or floats in 0..255.')
    check_pixels(array.shape[1], array.shape[0], name)
    if array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 255):  # false for NaN too
            raise ImageError(
                f'{name} has values from {low} to {high}: expected finite numbers in 0..255.'
            )
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    return np.ascontiguousarray(array[..., :3])


@contextmanager
def _opened(source: bytes | str | os.PathLike, name: str) -> Iterator[Image.Image]:
    """An image whose header was read, of at most :func:`max_pixels`."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError(f'{name} has zero bytes.')
        source = BytesIO(source)
    # Pillow's own limit cannot be told from what it says, and ours is checked before decoding.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(source) as image:
                check_pixels(*image.size, name)
                yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f'there is no image {name}.') from None
    except PIL.UnidentifiedImageError:
        raise ImageError(
            f'{name} is not an image, or of a kind that Pillow {PIL.__version__} cannot read.'
        ) from None
    except Exception as error:  # decoders raise whatever they stumble on
        raise ImageError(
            f'{name} is a damaged image: {type(error).__name__} {error}.'.replace('..', '.')
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    # Damaged EXIF data are no reason to lose an image.
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1


def _upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation in (5, 6, 7, 8) else size


def _decode_jpeg(content: bytes, image: Image.Image) -> np.ndarray | None:
    """Decodes an ordinary, whole JPEG by OpenCV, the fastest; ``None`` for others."""
    if image.mode not in ('RGB', 'L') or not content.rstrip(b'\0\r\n ').endswith(_JPEG_END):
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # above OpenCV's own limit
        return None


def _decode(image: Image.Image, name: str) -> np.ndarray:
    """Pixels as they are stored, in BGR."""
    if image.mode == 'F':
        raise ImageError(
            f'{name} holds 32-bit floats, whose range is unknown: convert it to 8 or 16 bits.'
        )
    if image.mode.startswith('I'):
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise ImageError(
                f'{name} has values from {array.min()} to {array.max()}, whose range is unknown: '
                'convert it to 8 or 16 bits.'
            )
        grey = (array >> 8).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    return np.asarray(image.convert('RGB'))[..., ::-1]
