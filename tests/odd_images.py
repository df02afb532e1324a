"""Image files of every kind that a data set may hold, made of one scene."""

import numpy as np
from PIL import Image, features

# The scene: grey, with a bright red box whose corners are these.
BOX = (40, 10, 70, 30)
SIZE = (100, 60)


def scene():
    """RGB array (60, 100, 3)."""
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    x1, y1, x2, y2 = BOX
    image[y1:y2, x1:x2] = (230, 20, 20)
    return image


def _exif_rotated(folder, orientation=6):
    # Stored turned to the left, so that turning it to the right shows the scene.
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(scene())).save(folder / 'exif.jpg', exif=exif, quality=95)


def good_images(folder):
    """Writes images that must be read; names and how near the red box's colour must come."""
    rgb = Image.fromarray(scene())
    rgb.save(folder / 'plain.jpg', quality=95)
    rgb.save(folder / 'plain.png')
    rgb.save(folder / 'plain.bmp')
    rgb.save(folder / 'plain.tif')
    rgb.convert('L').save(folder / 'grey.jpg', quality=95)
    rgb.convert('L').save(folder / 'grey.png')
    rgb.convert('1').save(folder / 'one_bit.png')
    rgb.convert('P', palette=Image.ADAPTIVE).save(folder / 'palette.png')
    rgb.convert('RGBA').save(folder / 'rgba.png')
    rgb.convert('LA').save(folder / 'grey_alpha.png')
    rgb.convert('CMYK').save(folder / 'cmyk.jpg', quality=95)
    grey = np.asarray(rgb.convert('L')).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / '16bit.png')
    Image.fromarray(grey).save(folder / '16bit.tif')
    _exif_rotated(folder)
    other = Image.fromarray(scene()[::-1])
    rgb.save(folder / 'animated.gif', save_all=True, append_images=[other])
    rgb.save(folder / 'animated.png', save_all=True, append_images=[other])
    rgb.save(folder / 'plain.webp', quality=95)
    if features.check('avif'):
        rgb.save(folder / 'plain.avif', quality=95)
    return sorted(path.name for path in folder.iterdir())


def strange_shapes(folder):
    """Writes images of unusual shapes; names and sizes."""
    sizes = {'one_pixel.png': (1, 1), 'strip.png': (5000, 3), 'column.jpg': (3, 5000)}
    for name, size in sizes.items():
        Image.new('RGB', size, (200, 100, 50)).save(folder / name)
    return sizes


def bad_images(folder):
    """Writes files that must be refused; names and a part of the message."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8))
    expected = {}
    for suffix in ('jpg', 'png', 'webp', 'gif', 'tif', 'bmp'):
        path = folder / f'truncated.{suffix}'
        rgb.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        expected[path.name] = 'damaged'
    (folder / 'empty.jpg').write_bytes(b'')
    expected['empty.jpg'] = 'zero bytes'
    (folder / 'text.png').write_text('this is not an image')
    expected['text.png'] = 'not an image'
    (folder / 'garbage.jpg').write_bytes(b'\xff\xd8\xff' + bytes(range(256)))
    expected['garbage.jpg'] = 'garbage.jpg'
    Image.fromarray(np.float32(scene()[..., 0])).save(folder / 'float.tif')
    expected['float.tif'] = '32-bit floats'
    Image.new('1', (12000, 12000)).save(folder / 'gigantic.png')
    expected['gigantic.png'] = 'MMDET_VANILLA_MAX_PIXELS'
    expected['missing.jpg'] = 'there is no image'
    return expected
