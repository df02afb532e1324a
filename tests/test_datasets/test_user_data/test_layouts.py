"""Data sets as they lie in folders: what is found, and that all formats give the same boxes."""

import json
from pathlib import Path

import pytest
from small_data import BOXES, CLASSES, coco, voc, write_coco, write_images, yolo

from mmdet_vanilla.datasets.user_data import AnnotationError, find_splits, load_user_data

TRAIN, VAL = ('a.jpg', 'b.jpg', 'c.jpg'), ('d.jpg', 'e.jpg')


def coco_plain(root):
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / split, names)
        write_coco(root / f'{split}.json', coco(names))


def coco_2017(root):
    for split, names in (('train2017', TRAIN), ('val2017', VAL)):
        write_images(root / split, names)
        write_coco(root / 'annotations' / f'instances_{split}.json', coco(names))
        captions = dict(coco(names), annotations=[dict(id=1, image_id=100, caption='two')])
        write_coco(root / 'annotations' / f'captions_{split}.json', captions)


def coco_beside_images(root):
    for split, names in (('train', TRAIN), ('valid', VAL)):
        write_images(root / split, names)
        write_coco(root / split / '_annotations.coco.json', coco(names))


def coco_images_folder(root):
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / 'images' / split, names)
        write_coco(root / 'annotations' / f'{split}.json', coco(names))


def coco_with_folders_in_names(root):
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / 'images' / split, names)
        content = coco(names)
        for image in content['images']:
            image['file_name'] = f'{split}\\{image["file_name"]}'  # as written on Windows
        write_coco(root / f'instances_{split}.json', content)


def voc_devkit(root):
    write_images(root / 'JPEGImages')
    (root / 'Annotations').mkdir()
    for name in BOXES:
        (root / 'Annotations' / name.replace('.jpg', '.xml')).write_text(voc(name), 'utf-8')
    sets = root / 'ImageSets' / 'Main'
    sets.mkdir(parents=True)
    for split, names in (('train', TRAIN), ('val', VAL)):
        (sets / f'{split}.txt').write_text('\n'.join(name[:-4] for name in names))


def voc_beside_images(root):
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / split, names)
        for name in names:
            text = voc(name, filename='' if name == 'a.jpg' else name)
            (root / split / name.replace('.jpg', '.xml')).write_text(text, 'utf-8')


def voc_folders_in_splits(root):
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / split / 'images', names)
        (root / split / 'annotations').mkdir()
        for name in names:
            text = voc(name, filename=name.replace('jpg', 'png'), size=(0, 0))
            (root / split / 'annotations' / name.replace('.jpg', '.xml')).write_text(text, 'utf-8')


def yolo_with_yaml(root):
    yolo_plain(root, images='{split}/images', labels='{split}/labels')
    (root / 'classes.txt').unlink()
    # As exports write it: relative to a folder beside the one that it is in.
    text = 'train: ../train/images\nval: ../val/images\nnc: 3\nnames: [cat, Hund, 猫]\n'
    (root / 'data.yaml').write_text(text, 'utf-8')


def yolo_with_numbered_names(root):
    yolo_plain(root)
    (root / 'classes.txt').unlink()
    text = 'path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: Hund, 2: 猫}\n'
    (root / 'bccd.yaml').write_text(text, 'utf-8')


def yolo_plain(root, images='images/{split}', labels='labels/{split}'):
    (root / 'classes.txt').write_text('\n'.join(CLASSES), 'utf-8')
    for split, names in (('train', TRAIN), ('val', VAL)):
        write_images(root / images.format(split=split), names)
        folder = root / labels.format(split=split)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if BOXES[name]:
                (folder / name.replace('.jpg', '.txt')).write_text(yolo(name))


def yolo_beside_images(root):
    yolo_plain(root, '{split}', '{split}')


LAYOUTS = [
    coco_plain,
    coco_2017,
    coco_beside_images,
    coco_images_folder,
    coco_with_folders_in_names,
    voc_devkit,
    voc_beside_images,
    voc_folders_in_splits,
    yolo_plain,
    yolo_with_yaml,
    yolo_with_numbered_names,
    yolo_beside_images,
]


def boxes_of(ann_file):
    """By image: class and corners, from a canonical file."""
    content = json.loads(Path(ann_file).read_text('utf-8'))
    assert [c['id'] for c in content['categories']] == [1, 2, 3]
    names = {category['id']: category['name'] for category in content['categories']}
    found = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        x, y, w, h = annotation['bbox']
        assert annotation['area'] == pytest.approx(w * h)
        box = [round(value, 6) for value in (x, y, x + w, y + h)]
        found[annotation['image_id']].append((names[annotation['category_id']], *box))
    return {
        image['file_name'].rsplit('/', 1)[-1]: sorted(found[image['id']])
        for image in content['images']
    }


@pytest.mark.parametrize('make', LAYOUTS, ids=lambda make: make.__name__)
def test_found_and_read(tmp_path, make):
    make(tmp_path)
    data = load_user_data(str(tmp_path))
    assert data.kind.lower() in make.__name__
    assert sorted(data.classes) == sorted(CLASSES)
    if data.kind != 'VOC':  # which declares no order
        assert data.classes == CLASSES
    for split, names in (('train', TRAIN), ('val', VAL)):
        assert boxes_of(data.splits[split].ann_file) == {n: sorted(BOXES[n]) for n in names}
    assert data.splits['train'].num_images == 3 and data.splits['train'].num_boxes == 3
    assert not any('No validation split' in note for note in data.notes)


@pytest.mark.parametrize('make', [coco_plain, voc_devkit, yolo_plain, yolo_with_numbered_names])
@pytest.mark.parametrize('text', ['name: torch\ndependencies: [python]\n', '- a\n', '{'])
def test_a_yaml_file_of_something_else(tmp_path, make, text):
    make(tmp_path)
    (tmp_path / 'environment.yaml').write_text(text)
    data = load_user_data(str(tmp_path))
    assert data.kind.lower() in make.__name__ and sorted(data.classes) == sorted(CLASSES)


def test_converted_once(tmp_path):
    coco_plain(tmp_path)
    first = load_user_data(str(tmp_path))
    path = first.splits['train'].ann_file
    before = Path(path).read_text('utf-8')
    with open(path, 'w') as file:
        file.write('kept')
    assert load_user_data(str(tmp_path)) == first and Path(path).read_text('utf-8') == 'kept'
    content = coco(TRAIN)
    content['annotations'].pop()
    write_coco(tmp_path / 'train.json', content)
    second = load_user_data(str(tmp_path)).splits['train'].ann_file
    assert second != path and len(Path(second).read_text('utf-8')) < len(before)


@pytest.mark.parametrize('make, name', [(yolo_plain, 'classes.txt'), (yolo_with_yaml, 'data.yaml')])
def test_converted_anew_when_the_names_change(tmp_path, make, name):
    make(tmp_path)
    assert load_user_data(str(tmp_path)).classes == CLASSES
    text = (tmp_path / name).read_text('utf-8')
    text = text.replace('cat', '-').replace('猫', 'cat').replace('-', '猫')  # of the same size
    (tmp_path / name).write_text(text, 'utf-8')
    assert load_user_data(str(tmp_path)).classes == CLASSES[::-1]


def test_without_permission_the_users_cache_is_taken(tmp_path, monkeypatch):
    (tmp_path / 'data').mkdir()
    coco_plain(tmp_path / 'data')
    (tmp_path / 'data' / '.mmdet_vanilla').write_text('in the way')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    data = load_user_data(str(tmp_path / 'data'))
    assert data.splits['train'].ann_file.startswith(str(tmp_path / 'cache'))


def test_without_splits_a_fifth_is_held_out(tmp_path):
    write_images(tmp_path / 'pictures')
    write_coco(tmp_path / 'labels.json', coco())
    data = load_user_data(str(tmp_path), ('train', 'val', 'test'))
    train, val = (boxes_of(data.splits[name].ann_file) for name in ('train', 'val'))
    assert len(train) == 4 and len(val) == 1 and not set(train) & set(val)
    assert {**train, **val} == {name: sorted(boxes) for name, boxes in BOXES.items()}
    assert any('No validation split' in note for note in data.notes)
    assert boxes_of(data.splits['test'].ann_file) == val
    # Tools that only evaluate take what training left out.
    data = load_user_data(str(tmp_path), ('test',), classes=data.classes)
    assert boxes_of(data.splits['test'].ann_file) == val
    assert any('evaluating on 1 of 5 images' in note for note in data.notes)


def test_files_by_name(tmp_path):
    write_images(tmp_path / 'pictures')
    write_coco(tmp_path / 'one.json', coco(TRAIN))
    write_coco(tmp_path / 'two.json', coco(VAL))
    with pytest.raises(AnnotationError, match=r'one\.json, two\.json.*--train-ann'):
        find_splits(str(tmp_path))
    data = load_user_data(
        str(tmp_path), annotations=dict(train='one.json', val='two.json'), img_dir='pictures'
    )
    assert data.splits['train'].num_images == 3 and data.splits['val'].num_images == 2
    with pytest.raises(AnnotationError, match='no val annotation file at'):
        load_user_data(str(tmp_path), annotations=dict(train='one.json', val='three.json'))
    with pytest.raises(AnnotationError, match='no image folder at'):
        load_user_data(str(tmp_path), annotations=dict(train='one.json'), img_dir='nowhere')
    # Tools pass on options that were not given.
    unset = dict(train=None, val=None, test=None)
    only = find_splits(str(tmp_path / 'two.json'), unset, img_dir='pictures')
    assert [source.files[0].endswith('two.json') for source in only.values()] == [True]


def test_a_missing_image_is_not_looked_for_in_another_split(tmp_path):
    for split in ('train', 'val'):
        write_images(tmp_path / split, TRAIN)
        write_coco(tmp_path / f'{split}.json', coco(TRAIN))
    (tmp_path / 'val' / TRAIN[0]).unlink()
    sources = find_splits(str(tmp_path))
    assert Path(sources['val'].image_dir) == tmp_path / 'val'


def test_classes_of_splits_in_another_order(tmp_path):
    coco_plain(tmp_path)
    order = (2, 0, 1)
    content = coco(VAL)
    content['categories'] = [content['categories'][i] for i in order]
    write_coco(tmp_path / 'val.json', content)
    data = load_user_data(str(tmp_path))
    assert data.classes == CLASSES
    assert boxes_of(data.splits['val'].ann_file) == {n: sorted(BOXES[n]) for n in VAL}


def test_classes_of_a_checkpoint(tmp_path):
    coco_plain(tmp_path)
    classes = ('猫', 'bird', 'Hund', 'cat')
    data = load_user_data(str(tmp_path), ('test',), classes=classes)
    assert data.classes == classes
    categories = json.loads(Path(data.splits['test'].ann_file).read_text('utf-8'))['categories']
    assert [c['name'] for c in categories] == list(classes)
    with pytest.raises(AnnotationError, match='does not know: 猫'):
        load_user_data(str(tmp_path), ('test',), classes=('cat', 'Hund'))


@pytest.mark.parametrize('content', [None, 'x.txt', 'x.json'])
def test_nothing_there(tmp_path, content):
    root = tmp_path / 'data'
    if content:
        root.mkdir()
        (root / content).write_text('{}')
    with pytest.raises(AnnotationError, match='Expected COCO json'):
        load_user_data(str(root))


@pytest.mark.parametrize('name', ['z', '../../outside/a', '/etc/passwd', '\0'])
def test_a_list_that_names_what_is_not_there(tmp_path, name):
    root = tmp_path / 'data'
    voc_devkit(root)
    write_images(tmp_path / 'outside', TRAIN)
    (tmp_path / 'outside' / 'a.xml').write_text(voc('a.jpg'), 'utf-8')
    with open(root / 'ImageSets' / 'Main' / 'train.txt', 'a') as file:
        file.write(f'\n{name}')
    data = load_user_data(str(root))
    assert data.splits['train'].num_images == len(TRAIN)
    assert any('1 names in ImageSets/Main have no annotation file' in note for note in data.notes)
