import json

import pytest
from comparison_helpers import CLASSES, make_data
from small_data import BOXES, voc, write_images

from mmdet_vanilla.comparison import ComparisonError, Settings
from mmdet_vanilla.comparison.data import open_data
from mmdet_vanilla.comparison.dataset import match_classes, read_split
from mmdet_vanilla.utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / 'data', splits=('val', 'test'))


def opened(path, out, **settings):
    return open_data(Settings(out=out, data=str(path), **settings))


def test_test_data_come_first_and_a_file_can_be_named(data, tmp_path):
    split = opened(data, tmp_path).split
    assert split.name == 'test' and split.classes == CLASSES
    assert opened(data, tmp_path, split='val').split.folder == data / 'val'
    named = opened(data / 'val.json', tmp_path).split
    assert named.folder == data / 'val'
    assert named.content == opened(data, tmp_path, split='val').split.content


def test_layouts_of_coco_and_roboflow(data, tmp_path):
    coco, roboflow = tmp_path / 'coco', tmp_path / 'roboflow'
    (coco / 'annotations').mkdir(parents=True)
    (data / 'val.json').rename(coco / 'annotations' / 'instances_val2017.json')
    (data / 'val').rename(coco / 'val2017')
    roboflow.mkdir()
    (data / 'test').rename(roboflow / 'test')
    (data / 'test.json').rename(roboflow / 'test' / '_annotations.coco.json')
    for root, folder in ((coco, 'val2017'), (roboflow, 'test')):
        found = opened(root, tmp_path)
        assert found.split.folder == root / folder and found.unreadable == ()
    named = opened(coco / 'annotations' / 'instances_val2017.json', tmp_path).split
    assert named.folder == coco / 'val2017'


def test_pascal_voc(tmp_path):
    root = tmp_path / 'data'
    write_images(root / 'test')
    for name in BOXES:
        (root / 'test' / name).with_suffix('.xml').write_text(voc(name), encoding='utf-8')
    split = opened(root, tmp_path).split
    assert set(split.classes) == {'cat', 'Hund', '猫'} and len(split.content['images']) == 5
    [box] = [a['bbox'] for a in split.content['annotations'] if a['bbox'][2:] == [29, 38]]
    assert box == [1, 2, 29, 38]


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c.update(images=[]), r'test\.json.* image'),
        (lambda c: c.pop('categories'), 'categories'),
    ],
)
def test_empty_and_damaged_files(data, tmp_path, change, message):
    content = json.loads((data / 'test.json').read_text())
    change(content)
    (data / 'test.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        opened(data / 'test.json', tmp_path)


def test_what_is_not_there(data, tmp_path):
    with pytest.raises(UserError, match='no folder of data at'):
        opened(tmp_path / 'nothing', tmp_path)
    with pytest.raises(UserError, match='no train split found'):
        opened(data, tmp_path, split='train')
    with pytest.raises(UserError, match='no image folder at'):
        opened(data, tmp_path, img_dir=str(tmp_path / 'nothing'))
    with pytest.raises(ComparisonError, match='need --data'):
        Settings(out=tmp_path, img_dir='images')


def test_unreadable_images_are_named_and_left_out(data, tmp_path):
    (data / 'test' / '2.png').write_bytes(b'broken')
    (data / 'test' / '5.png').unlink()
    found = opened(data, tmp_path / 'new')
    assert found.unreadable == ('2.png',) and '5.png' in ' '.join(found.user_data.notes)
    content = found.split.content
    assert [i['file_name'] for i in content['images']] == ['1.png', '3.png', '4.png', '6.png']
    assert {a['image_id'] for a in content['annotations']} == {i['id'] for i in content['images']}
    assert found.user_data.splits['test'].num_images == 4
    again = read_split('test', found.split.ann_file, found.split.folder)
    assert again.content == content
    for image in (data / 'test').iterdir():
        image.write_bytes(b'broken')
    with pytest.raises(ComparisonError, match='none of the 5 images'):
        opened(data, tmp_path / 'other')


def test_classes(data, tmp_path):
    split = opened(data, tmp_path).split
    ids = (1, 2, 3, 4)
    assert match_classes(CLASSES, 4, split, 'x') == dict(enumerate(ids))
    assert match_classes(('z', 'd', 'c', 'b', 'a'), 5, split, 'x') == {1: 4, 2: 3, 3: 2, 4: 1}
    assert match_classes(None, 4, split, 'x') == dict(enumerate(ids))
    with pytest.raises(ComparisonError, match=r'x has 5 classes \(v, w, x, y, z\), but .* has 4'):
        match_classes(tuple('vwxyz'), 5, split, 'x')
