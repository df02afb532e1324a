"""Every problem that a data set may have is found, with its verdict."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_images import SIZE, bad_images, good_images
from small_data import BOXES, coco, write_coco, write_images

from mmdet_vanilla.datasets.checks import check_data, write_report
from mmdet_vanilla.datasets.user_data import KINDS

ROOT = Path(__file__).resolve().parents[3]


def make(root, edit=lambda content: None, split='train'):
    for name in ('train', 'val'):
        write_images(root / name)
        content = coco()
        if name == split:
            edit(content)
        write_coco(root / f'{name}.json', content)
    # Otherwise both splits would show the same.
    for seed, name in enumerate(BOXES):
        image = np.random.default_rng(seed + 50).integers(0, 255, (80, 100, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'val' / name), image)


def kinds(result, split='train'):
    return {kind: found.count for kind, found in result.splits[split].problems}


def test_a_good_data_set(tmp_path):
    make(tmp_path)
    result = check_data(str(tmp_path), images=True)
    assert not result.fatal
    # An image without boxes is all right, and said.
    assert kinds(result) == kinds(result, 'val') == {'image-without-box': 1}


def test_all_at_once(tmp_path):
    def edit(content):
        items = content['annotations']
        content['images'].append(dict(id=1, file_name='z.jpg', width=10, height=10))
        content['categories'].append(dict(id=3, name='emu'))
        for box in ([90, 70, 40, 40], [300, 1, 9, 9], [1, 1, 0, 5], [1, 1, float('nan'), 5]):
            items.append(dict(items[0], bbox=box, id=len(items) + 900))
        items.append(dict(items[0], id=990))
        items.append(dict(items[0], bbox=[1, 1, 9, 9]))
        items.append(dict(items[0], bbox=[2, 2, 8, 8], iscrowd=1, id=991))
        items.append(dict(items[0], image_id=77, id=992))

    make(tmp_path, edit)
    result = check_data(str(tmp_path), num_queries=4)
    assert not result.fatal
    assert kinds(result) == {
        'missing-image': 1,
        'non-finite-box': 1,
        'empty-box': 1,
        'outside-box': 1,
        'overhanging-box': 1,
        'duplicate-annotation-id': 2,
        'duplicate-box': 1,
        'unknown-image': 1,
        'crowd': 1,
        'unused-category': 1,
        'image-without-box': 1,
        'more-boxes-than-queries': 1,
    }


def test_unknown_category_is_fatal(tmp_path):
    make(tmp_path, lambda content: content['annotations'][0].update(category_id=99))
    result = check_data(str(tmp_path))
    assert result.fatal and kinds(result)['unknown-category'] == 1


def test_class_that_is_never_learnt(tmp_path):
    def edit(content):
        content['annotations'] = [a for a in content['annotations'] if a['category_id'] != -3]

    make(tmp_path, edit)
    result = check_data(str(tmp_path))
    assert kinds(result, 'val')['class-not-in-train'] == 1
    assert kinds(result)['unused-category'] == 1


def test_images(tmp_path):
    for split in ('train', 'val'):
        folder = tmp_path / split
        folder.mkdir()
        names = good_images(folder)
        bad = bad_images(folder)
        shutil.copy(folder / 'plain.png', folder / 'copy.png')
        content = dict(images=[], annotations=[], categories=[dict(id=1, name='a')])
        for i, name in enumerate([*names, 'copy.png', *bad]):
            size = (60, 100) if name == 'exif.jpg' else (1, 2) if name == 'grey.png' else SIZE
            content['images'].append(dict(id=i, file_name=name, width=size[0], height=size[1]))
            if i < 3:
                item = dict(id=i + 1, image_id=i, category_id=1, bbox=[1, 1, 9, 9])
                content['annotations'].append(item)
        write_coco(tmp_path / f'{split}.json', content)
    found = check_data(str(tmp_path), images=True)
    train = kinds(found)
    assert train['unreadable-image'] == len(bad) - 1 and train['missing-image'] == 1
    assert train['turned-image'] == 1 and train['other-size'] == 1
    # BMP, PNG, TIFF, ... of the same pixels.
    assert train['duplicate-image'] >= 4 and 'leaked-image' not in train
    assert kinds(found, 'val')['leaked-image'] >= 10
    serial = check_data(str(tmp_path), images=True, processes=1)
    assert kinds(serial) == train


def test_report(tmp_path):
    make(tmp_path / 'data', lambda content: content['annotations'][0].update(bbox=[95, 1, 20, 20]))
    result = check_data(str(tmp_path / 'data'))
    write_report(result, tmp_path / 'out')
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert report['fatal'] is False and report['splits']['train']['boxes'] == 5
    assert report['splits']['train']['boxes_per_class'] == {'cat': 2, 'Hund': 1, '猫': 2}
    problem = report['splits']['train']['problems']['overhanging-box']
    assert problem['verdict'] == 'repaired' and 'annotation 50' in problem['examples'][0]
    for name in ('histograms.png', 'train.png', 'val.png'):
        picture = cv2.imread(str(tmp_path / 'out' / name))
        assert picture is not None and picture.std() > 10


def call(*args):
    argv, sys.argv = sys.argv, ['check_data.py', *map(str, args)]
    try:
        runpy.run_path(str(ROOT / 'tools' / 'check_data.py'), run_name='__main__')
    except SystemExit as error:
        return error.code
    finally:
        sys.argv = argv
    return 0


def test_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'data')
    assert call('data', '--no-pictures') == 0
    make(tmp_path / 'bad', lambda content: content['annotations'][0].update(category_id=99))
    assert call('bad', '--no-pictures') == 1
    assert 'cannot be trained on' in capsys.readouterr().err
    assert call('nowhere') == 2
    assert 'no folder of data' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['train', 'val', 'test', 'labels'])
@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.98])
def test_exit_status_of_a_file_that_was_cut_off(tmp_path, monkeypatch, capsys, name, share):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'data' / 'images')
    text = json.dumps(coco())
    (tmp_path / 'data' / f'{name}.json').write_text(text[: int(share * len(text))])
    assert call('data') == 1
    assert f'{name}.json is not a JSON file' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['val', 'test'])
def test_exit_status_of_one_that_was_cut_off(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'data')
    (tmp_path / 'data' / f'{name}.json').write_text(json.dumps(coco())[:60])
    assert call('data') == 1
    assert f'{name}.json is not a JSON file' in capsys.readouterr().err


@pytest.mark.parametrize('content', [None, '{}', '[1]'])
def test_exit_status_of_nothing(tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'data' / 'images')
    if content:
        (tmp_path / 'data' / 'settings.json').write_text(content)
    assert call('data') == 2
    assert 'no annotations found' in capsys.readouterr().err


@pytest.mark.parametrize('out', ['file', 'file/below', '/proc/none'])
def test_a_report_that_cannot_be_written_is_said_before_the_work(
    tmp_path, monkeypatch, capsys, out
):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'data')
    (tmp_path / 'file').write_text('')
    assert call('data', '--out', out) == 2
    captured = capsys.readouterr()
    assert f'--out {out}: expected a folder to write to' in captured.err
    assert 'annotations' not in captured.out


def test_every_kind_has_a_verdict_and_a_remedy():
    for kind in KINDS.values():
        assert kind.verdict in ('fatal', 'repaired', 'reported') and kind.what and kind.remedy


@pytest.mark.parametrize('name', ['check_data.py', 'download_dataset.py'])
def test_help(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    assert info.value.code == 0 and 'usage' in capsys.readouterr().out
