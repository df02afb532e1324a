import json

import pytest
from comparison_helpers import CLASSES, make_data

from mmdet_vanilla.comparison import ComparisonError
from mmdet_vanilla.comparison.dataset import (
    find_split,
    match_classes,
    unreadable_images,
    without_images,
)


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / 'data', splits=('val', 'test'))


def test_test_data_come_first_and_a_file_can_be_named(data):
    split = find_split(str(data))
    assert split.name == 'test' and split.classes == CLASSES
    assert find_split(str(data), 'val').folder == data / 'val'
    assert find_split(str(data / 'val.json')).content == find_split(str(data), 'val').content


def test_layouts_of_coco_and_roboflow(data, tmp_path):
    coco, roboflow = tmp_path / 'coco', tmp_path / 'roboflow'
    (coco / 'annotations').mkdir(parents=True)
    (data / 'val.json').rename(coco / 'annotations' / 'instances_val2017.json')
    (data / 'val').rename(coco / 'val2017')
    roboflow.mkdir()
    (data / 'test').rename(roboflow / 'test')
    (data / 'test.json').rename(roboflow / 'test' / '_annotations.coco.json')
    for root, name in ((coco, 'val'), (roboflow, 'test')):
        split = find_split(str(root))
        assert split.name == name and unreadable_images(split) == {}
    named = find_split(str(coco / 'annotations' / 'instances_val2017.json'))
    assert named.folder == coco / 'val2017'


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c.update(images=[]), 'the data set is empty: .* lists no image'),
        (lambda c: c.pop('categories'), 'is not a COCO annotation file'),
    ],
)
def test_empty_and_damaged_files(data, change, message):
    content = json.loads((data / 'test.json').read_text())
    change(content)
    (data / 'test.json').write_text(json.dumps(content))
    with pytest.raises(ComparisonError, match=message):
        find_split(str(data))


def test_what_is_not_there(data, tmp_path):
    with pytest.raises(ComparisonError, match='no data at'):
        find_split(str(tmp_path / 'nothing'))
    with pytest.raises(ComparisonError, match=r'no train data in .*train\.json'):
        find_split(str(data), 'train')
    with pytest.raises(ComparisonError, match='no folder of images'):
        find_split(str(data), images=str(tmp_path / 'nothing'))


def test_unreadable_images_are_named_and_left_out(data, tmp_path):
    (data / 'test' / '2.png').write_bytes(b'broken')
    (data / 'test' / '5.png').unlink()
    split = find_split(str(data))
    bad = unreadable_images(split)
    assert bad == {2: '2.png', 5: '5.png'}
    rest = without_images(split, list(bad), tmp_path / 'new')
    assert [image['id'] for image in rest.content['images']] == [1, 3, 4, 6]
    assert {a['image_id'] for a in rest.content['annotations']} == {1, 3, 4, 6}
    assert find_split(str(rest.ann_file), 'test', str(rest.folder)).content == rest.content
    for image in split.content['images']:
        split.path_of(image).unlink(missing_ok=True)
    with pytest.raises(ComparisonError, match='none of the 6 images'):
        unreadable_images(split)


def test_classes(data):
    split = find_split(str(data))
    ids = (10, 20, 30, 40)
    assert match_classes(CLASSES, 4, split, 'x') == dict(enumerate(ids))
    assert match_classes(('z', 'd', 'c', 'b', 'a'), 5, split, 'x') == {1: 40, 2: 30, 3: 20, 4: 10}
    assert match_classes(None, 4, split, 'x') == dict(enumerate(ids))
    with pytest.raises(ComparisonError, match=r'x has 5 classes \(v, w, x, y, z\), but .* has 4'):
        match_classes(tuple('vwxyz'), 5, split, 'x')
