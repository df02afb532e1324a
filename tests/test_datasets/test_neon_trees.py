"""Photographs are cut into tiles with their boxes."""

import json

import cv2
import numpy as np
import pytest
from small_data import voc

from mmdet_vanilla.datasets.neon_trees import SPLITS, NeonTreesError, convert


@pytest.fixture
def source(tmp_path):
    """Photographs of 150 x 90 pixels named as the real ones, each with a tree and half a tree."""
    folder = tmp_path / 'deepforest' / 'data'
    folder.mkdir(parents=True)
    trees = [('Tree', 10, 20, 30, 40), ('Dead', 70, 50, 120, 80)]
    for name in (name for names in SPLITS.values() for name in names):
        image = np.zeros((90, 150, 3), np.uint8)
        for value, (_, x1, y1, x2, y2) in zip((100, 200), trees):
            image[y1:y2, x1:x2] = value
        cv2.imwrite(str(folder / f'{name}.png'), image)
        text = voc('', trees, size=(150, 90), filename=f'{name}.tif')
        (folder / f'{name}.xml').write_text(text)
    return tmp_path


def test_tiles(source, tmp_path):
    counts = convert(source, tmp_path / 'out', tile=100)
    # Tiles at x = 0 and 50: the first tree in one, the second in both, 60 % of it in the first.
    assert counts == dict(train=(2, 3), val=(2, 3), test=(4, 6))
    for split in SPLITS:
        content = json.loads((tmp_path / 'out' / f'{split}.json').read_text())
        assert [c['name'] for c in content['categories']] == ['Tree']
        images = {image['id']: image for image in content['images']}
        for item in content['annotations']:
            image = cv2.imread(
                str(tmp_path / 'out' / split / images[item['image_id']]['file_name'])
            )
            assert image.shape == (90, 100, 3)
            x, y, w, h = map(int, item['bbox'])
            inside = image[y : y + h, x : x + w]
            assert (inside == inside[0, 0]).all() and inside[0, 0, 0] in (100, 200)


def test_what_is_mostly_cut_off_is_ignored(source, tmp_path):
    convert(source, tmp_path / 'out', tile=80)
    content = json.loads((tmp_path / 'out' / 'train.json').read_text())
    cut = [a for a in content['annotations'] if a['bbox'][2] == 10]
    assert cut and all(item['iscrowd'] for item in cut)


def test_refused(source, tmp_path):
    with pytest.raises(NeonTreesError, match='pip download'):
        convert(tmp_path / 'nowhere', tmp_path / 'out')
    with pytest.raises(NeonTreesError, match='at least 32'):
        convert(source, tmp_path / 'out', tile=8)
    (source / 'deepforest' / 'data' / 'SOAP_061.png').unlink()
    with pytest.raises(NeonTreesError, match='missing'):
        convert(source, tmp_path / 'out')
