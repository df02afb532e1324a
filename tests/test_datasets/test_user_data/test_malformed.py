"""Malformed annotations: each is refused or repaired, and a sentence says which and what."""

import json
import math

import numpy as np
import pytest
from small_data import BOXES, coco, voc, write_coco, write_images, yolo

from mmdet_vanilla.datasets.user_data import AnnotationError, load_user_data


def first(content, part='annotations', **values):
    content[part][0].update(values)


def drop(content, part, key):
    del content[part][0][key]


def corners(content):
    content['annotations'] *= 3  # enough boxes to judge by
    for annotation in content['annotations']:
        annotation['bbox'] = [60, 50, 95, 75]


def shares(content):
    for annotation in content['annotations']:
        annotation['bbox'] = [0.1, 0.2, 0.5, 0.5]


def polygons(content):
    for annotation in content['annotations']:
        del annotation['bbox']
        annotation['segmentation'] = [[10, 20, 50, 20, 50, 60]]


def rename_all(content):
    for image in content['images']:
        image['file_name'] = 'x' + image['file_name']


FATAL, NOTE = 'fatal', 'note'
COCO_CASES = [
    # what is edited; whether it is fatal; a part of the sentence
    (lambda c: c.clear(), FATAL, "a list under 'images', got nothing"),
    (lambda c: c.pop('categories'), FATAL, "a list under 'categories', got nothing"),
    (lambda c: c.update(images=None), FATAL, "a list under 'images', got NoneType"),
    (lambda c: c.update(annotations={}), FATAL, "a list under 'annotations', got dict"),
    (lambda c: c.update(images=[]), FATAL, 'lists no image'),
    (lambda c: c.update(categories=[]), FATAL, '(there is none)'),
    (lambda c: c['images'].append(3), FATAL, 'images[5] is 3'),
    (lambda c: drop(c, 'images', 'id'), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', id=[1]), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', id=None), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', id=101), FATAL, 'images share an id (id 101)'),
    (lambda c: drop(c, 'images', 'file_name'), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', file_name=''), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', file_name=7), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', file_name='a\0.jpg'), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', file_name='\ud800.jpg'), FATAL, 'images[0] is'),
    (lambda c: first(c, 'images', file_name='../a.jpg'), FATAL, 'out of the image folder'),
    (lambda c: first(c, 'images', file_name='/etc/passwd'), FATAL, 'out of the image folder'),
    (lambda c: first(c, 'images', file_name='C:\\a.jpg'), FATAL, 'out of the image folder'),
    (lambda c: first(c, 'images', file_name='x/../../a.jpg'), FATAL, 'out of the image folder'),
    (lambda c: first(c, 'images', file_name='..\\a.jpg'), FATAL, 'out of the image folder'),
    (rename_all, FATAL, 'not in the image folder'),
    (lambda c: first(c, 'images', file_name='z.jpg'), NOTE, 'images do not exist (z.jpg)'),
    (lambda c: first(c, 'images', file_name='z' * 300), NOTE, 'images do not exist'),
    (lambda c: first(c, 'images', file_name='b.jpg'), NOTE, 'name an image that another one'),
    (lambda c: drop(c, 'images', 'width'), NOTE, 'without width and height (a.jpg)'),
    (lambda c: first(c, 'images', height=0), NOTE, 'without width and height'),
    (lambda c: first(c, 'images', height='80'), NOTE, 'without width and height'),
    (lambda c: first(c, 'images', height=math.nan), NOTE, 'without width and height'),
    (lambda c: c['categories'].append('cat'), FATAL, "categories[3] is 'cat'"),
    (lambda c: drop(c, 'categories', 'id'), FATAL, 'categories[0] is'),
    (lambda c: drop(c, 'categories', 'name'), FATAL, 'categories[0] is'),
    (lambda c: first(c, 'categories', name='  '), FATAL, 'categories[0] is'),
    (lambda c: first(c, 'categories', name=5), FATAL, 'categories[0] is'),
    (lambda c: first(c, 'categories', name='\udcff'), FATAL, 'categories[0] is'),
    (lambda c: first(c, 'categories', id=-3), FATAL, 'share an id (id -3: cat and Hund)'),
    (lambda c: first(c, 'categories', name='猫'), NOTE, 'taken as one class'),
    (lambda c: c['categories'].append(dict(id=1, name='emu')), NOTE, 'no box (emu)'),
    (lambda c: c['annotations'].append(None), FATAL, 'annotations[5] is None'),
    (lambda c: drop(c, 'annotations', 'bbox'), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=None), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=[1, 2, 3]), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=[1, 2, 3, 4, 5]), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox='abcd'), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=[1, 2, '3', 4]), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=[1, 2, True, 4]), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=dict(x=1)), FATAL, 'annotations[0] is'),
    (lambda c: first(c, bbox=[1, 2, math.nan, 4]), NOTE, 'boxes are not finite'),
    (lambda c: first(c, bbox=[1, 2, math.inf, 4]), NOTE, 'boxes are not finite'),
    (lambda c: first(c, bbox=[1, 2, 10**400, 4]), NOTE, 'boxes are not finite'),
    (lambda c: first(c, bbox=[1, 2, 0, 4]), NOTE, 'no or a negative width'),
    (lambda c: first(c, bbox=[50, 40, -10, -10]), NOTE, 'no or a negative width'),
    (lambda c: first(c, bbox=[1, 2, 0.5, 9]), NOTE, 'narrower than a pixel'),
    (lambda c: first(c, bbox=[200, 2, 10, 9]), NOTE, 'outside of their image'),
    (lambda c: first(c, bbox=[-50, 2, 40, 9]), NOTE, 'outside of their image'),
    (lambda c: first(c, bbox=[90, 70, 40, 40]), NOTE, 'cut at its edge'),
    (corners, FATAL, 'the file holds corners'),
    (shares, FATAL, 'shares of the image'),
    (polygons, NOTE, 'the box around the polygon'),
    (lambda c: drop(c, 'annotations', 'image_id'), FATAL, 'annotations[0] is'),
    (lambda c: first(c, image_id=[3]), FATAL, 'annotations[0] is'),
    (lambda c: first(c, image_id=999), NOTE, 'not listed'),
    (lambda c: first(c, image_id='100'), NOTE, 'not listed'),
    (lambda c: drop(c, 'annotations', 'category_id'), FATAL, 'annotations[0] is'),
    (lambda c: first(c, category_id=1), FATAL, 'not declared (annotation 50: image_id 100'),
    (lambda c: first(c, id=51), NOTE, 'annotations share an id (id 51;'),
    (lambda c: [a.pop('id') for a in c['annotations']], NOTE, None),
    (lambda c: [a.pop('area') for a in c['annotations']], NOTE, None),
    (lambda c: [a.update(area=0) for a in c['annotations']], NOTE, None),
    (lambda c: [a.update(area='x', iscrowd=None) for a in c['annotations']], NOTE, None),
    (lambda c: first(c, iscrowd=7), NOTE, 'iscrowd is neither 0 nor 1'),
    (lambda c: first(c, iscrowd=1), NOTE, 'marked as crowd'),
    (lambda c: first(c, ignore=1), NOTE, 'marked as crowd'),
    (lambda c: c['annotations'].append(dict(c['annotations'][0], id=9)), NOTE, 'same place'),
]


def load_coco(root, text):
    write_images(root / 'images')
    (root / 'train.json').write_text(text, 'utf-8')
    write_coco(root / 'val.json', coco())
    return load_user_data(str(root))


def expect(load, verdict, part):
    """The sentence that a data set gets."""
    if verdict == FATAL:
        with pytest.raises(AnnotationError) as info:
            load()
        text = str(info.value)
        assert text.encode() and text.isprintable()
    else:
        data = load()
        text = '\n'.join(data.notes)
        content = json.loads(open_text(data.splits['train'].ann_file))
        boxes = np.array([a['bbox'] for a in content['annotations']])
        assert len(boxes) and np.isfinite(boxes).all() and (boxes[:, 2:] >= 1).all()
        assert all(a['area'] > 0 for a in content['annotations'])
        assert len({a['id'] for a in content['annotations']}) == len(boxes)
    assert part is None or part in text, text


def open_text(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


@pytest.mark.parametrize('case', range(len(COCO_CASES)))
def test_coco(tmp_path, case):
    edit, verdict, part = COCO_CASES[case]
    content = coco()
    edit(content)
    expect(lambda: load_coco(tmp_path, json.dumps(content)), verdict, part)


@pytest.mark.parametrize(
    'text',
    ['', '{', '[]', '3', 'null', '{"images": [', '[' * 100_000, '{"a": ' + '9' * 5000 + '}'],
    ids=range(8),
)
def test_coco_files_that_are_none(tmp_path, text):
    write_images(tmp_path / 'images')
    (tmp_path / 'train.json').write_text(text)
    with pytest.raises(AnnotationError, match=r'train.json is not a'):
        load_user_data(str(tmp_path), annotations=dict(train='train.json'))


@pytest.mark.parametrize('content', [b'\xff\xfe\x00', b'\x80abc', b'\x00' * 50])
def test_coco_files_that_are_no_text(tmp_path, content):
    (tmp_path / 'train.json').write_bytes(content)
    with pytest.raises(AnnotationError, match=r'train.json is not a'):
        load_user_data(str(tmp_path / 'train.json'))


def test_coco_names_outside_can_be_allowed(tmp_path):
    write_images(tmp_path)
    content = coco()
    for image in content['images']:
        image['file_name'] = str(tmp_path / image['file_name'])
    (tmp_path / 'data' / 'images').mkdir(parents=True)
    write_coco(tmp_path / 'data' / 'train.json', content)
    with pytest.raises(AnnotationError, match='--allow-outside'):
        load_user_data(str(tmp_path / 'data'))
    data = load_user_data(str(tmp_path / 'data'), allow_outside=True)
    assert sum(split.num_images for split in data.splits.values()) == 5


BOMB = '<!DOCTYPE a [<!ENTITY b "' + 'x' * 1000 + '">]><annotation>&b;</annotation>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'
VOC_CASES = [
    (lambda t: '', FATAL, 'no element found'),
    (lambda t: t[:60], FATAL, 'a.xml'),
    (lambda t: 'text', FATAL, 'syntax error'),
    (lambda t: t.replace('annotation>', 'note>'), FATAL, 'the root is <note>'),
    (lambda t: BOMB, FATAL, 'document types and entities are refused'),
    (lambda t: EXTERNAL, FATAL, 'document types and entities are refused'),
    (lambda t: t.replace('<name>cat</name>', ''), FATAL, 'object 1 lacks a name'),
    (lambda t: t.replace('<name>cat', '<name> '), FATAL, 'object 1 lacks a name'),
    (lambda t: t.replace('<xmin>11</xmin>', ''), FATAL, 'lacks a name or one of xmin'),
    (lambda t: t.replace('<xmin>11', '<xmin>eleven'), FATAL, 'lacks a name or one of xmin'),
    (lambda t: t.replace('bndbox', 'box'), FATAL, 'lacks a name or one of xmin'),
    (lambda t: t.replace('>a.jpg', '>../a.jpg'), FATAL, 'out of the image folder'),
    (lambda t: t.replace('>a.jpg', '>/etc/passwd'), FATAL, 'out of the image folder'),
    (lambda t: t.replace('>a.jpg', '>b.jpg'), NOTE, 'name an image that another one'),
    (lambda t: t.replace('>a.jpg', '>zzz.png'), NOTE, 'found by the name of the annotation'),
    (lambda t: t.replace('>a.jpg', '>'), NOTE, 'found by the name of the annotation'),
    (lambda t: t.replace('<xmin>11', '<xmin>nan'), NOTE, 'boxes are not finite'),
    (lambda t: t.replace('<xmin>11', '<xmin>1e999'), NOTE, 'boxes are not finite'),
    (lambda t: t.replace('<xmin>11', '<xmin>70'), NOTE, 'no or a negative width'),
    (lambda t: t.replace('<xmax>50', '<xmax>5000'), NOTE, 'cut at its edge'),
    (lambda t: t.replace('<width>100', '<width>-4'), NOTE, 'without width and height'),
    (lambda t: t.replace('<width>100', '<width>wide'), NOTE, 'without width and height'),
    (lambda t: t.replace('<difficult>0', '<difficult>1', 1), NOTE, 'marked as difficult'),
    (lambda t: t.replace('difficult>', 'hard>'), NOTE, None),
]


@pytest.mark.parametrize('case', range(len(VOC_CASES)))
def test_voc(tmp_path, case):
    edit, verdict, part = VOC_CASES[case]
    write_images(tmp_path / 'train')
    write_images(tmp_path / 'val')
    for name in BOXES:
        for split in ('train', 'val'):
            path = tmp_path / split / name.replace('.jpg', '.xml')
            text = voc(name)
            path.write_text(edit(text) if (name, split) == ('a.jpg', 'train') else text, 'utf-8')
    expect(lambda: load_user_data(str(tmp_path)), verdict, part)


YOLO_CASES = [
    (lambda t: t + '\nx 0.5 0.5 0.1 0.1', FATAL, "line 3: 'x 0.5 0.5 0.1 0.1'"),
    (lambda t: t + '\n0.5 0.5 0.5 0.1 0.1', FATAL, 'line 3'),
    (lambda t: t + '\n0 0.5 0.5 0.1', FATAL, 'line 3'),
    (lambda t: t + '\n0 0.5 0.5 0.1 0.1 0.9', FATAL, 'line 3'),
    (lambda t: t + '\n0 0,5 0,5 0,1 0,1', FATAL, 'line 3'),
    (lambda t: t + '\n3 0.5 0.5 0.1 0.1', FATAL, 'not declared'),
    (lambda t: t + '\n-1 0.5 0.5 0.1 0.1', FATAL, 'not declared'),
    (lambda t: t + '\n1e300 0.5 0.5 0.1 0.1', FATAL, 'not declared'),
    (lambda t: t + '\nnan 0.5 0.5 0.1 0.1', FATAL, 'line 3'),
    (lambda t: t + '\n0 50 40 10 10', FATAL, 'the files hold pixels'),
    (lambda t: t + '\n0 nan 0.5 0.1 0.1', NOTE, 'boxes are not finite'),
    (lambda t: t + '\n0 0.5 0.5 0 0.1', NOTE, 'no or a negative width'),
    (lambda t: t + '\n0 0.5 0.5 -0.1 0.1', NOTE, 'no or a negative width'),
    (lambda t: t + '\n0 1.5 0.5 0.1 0.1', NOTE, 'outside of their image'),
    (lambda t: t + '\n0 0.95 0.5 0.3 0.1', NOTE, 'cut at its edge'),
    (lambda t: t + '\n0 0.1 0.1 0.4 0.1 0.4 0.5', NOTE, None),
    (lambda t: t + '\n\n  \n', NOTE, None),
    (lambda t: '\ufeff' + t, NOTE, None),
]


@pytest.mark.parametrize('case', range(len(YOLO_CASES)))
def test_yolo(tmp_path, case):
    edit, verdict, part = YOLO_CASES[case]
    make_yolo(tmp_path)
    path = tmp_path / 'labels' / 'train' / 'a.txt'
    path.write_text(edit(path.read_text()), 'utf-8')
    expect(lambda: load_user_data(str(tmp_path)), verdict, part)


def make_yolo(root):
    (root / 'classes.txt').write_text('cat\nHund\n猫\n', 'utf-8')
    for split in ('train', 'val'):
        write_images(root / 'images' / split)
        (root / 'labels' / split).mkdir(parents=True)
        for name in BOXES:
            (root / 'labels' / split / name.replace('.jpg', '.txt')).write_text(yolo(name))


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        ('names: [', 'not a YAML file'),
        ('- a\n- b', 'expected names and folders'),
        ('train: images/train', 'no names of classes'),
        ('names: [a, a]', 'different names'),
        ('names: [a, ""]', 'different names'),
        ('names: {0: a, 2: b}', r'a name for each of 0\.\.1'),
        ('names: [a, [b]]', 'different names'),
        ('names: []', 'no names of classes'),
        ('names: 3', 'no names of classes'),
        ('names: [a, b, c]\ntrain: [images/train]', 'Lists of folders'),
        ('names: [a, b, c]\ntrain: nowhere', 'no folder of images'),
        ('names: [a, b, c]\ntrain: ../outside', 'leads out of'),
        ('names: !!python/object/apply:os.system ["touch marker"]', 'not a YAML file'),
    ],
)
def test_yolo_yaml(tmp_path, monkeypatch, text, part):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'outside')
    (tmp_path / 'data').mkdir()
    make_yolo(tmp_path / 'data')
    (tmp_path / 'data' / 'classes.txt').unlink()
    (tmp_path / 'data' / 'data.yaml').write_text(text)
    with pytest.raises(AnnotationError, match=part):
        load_user_data(str(tmp_path / 'data'))
    assert not (tmp_path / 'marker').exists()


def test_yolo_without_names(tmp_path):
    make_yolo(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    with pytest.raises(AnnotationError, match='write them into data.yaml'):
        load_user_data(str(tmp_path))


def test_there_are_as_many_cases_as_promised():
    assert len(COCO_CASES) + len(VOC_CASES) + len(YOLO_CASES) >= 100
