# Copyright (c) mmdet_vanilla contributors. All rights reserved.
import json

import cv2
import numpy as np
import pytest

pytest.importorskip('sklearn')

from mmdet_vanilla.datasets import digits_on_paper as dop  # noqa: E402

PAGES = dict(train_pages=24, val_pages=8)
NOISELESS = dop.PageStyle(max_noise=0, max_blur=0)


def read_tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return dop.generate(tmp_path_factory.mktemp('digits'), **PAGES, seed=3, workers=1)


@pytest.fixture
def digits():
    images, labels = dop.load_split(0)['val']
    return images[:6], labels[:6]


def test_split_is_disjoint_stratified_and_complete():
    split = dop.load_split(0)
    train, val = ({image.tobytes() for image in split[name][0]} for name in ('train', 'val'))
    assert len(train) + len(val) == 1797  # no two source digits are equal
    assert not train & val
    for digit in range(10):
        in_train, in_val = (int((split[name][1] == digit).sum()) for name in ('train', 'val'))
        assert in_train / (in_train + in_val) == pytest.approx(0.8, abs=0.01)


def test_split_depends_on_seed():
    first, same, other = (dop.load_split(seed)['val'][0] for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_pages_use_digits_of_their_split_only(monkeypatch):
    written = []
    render_page = dop.render_page
    monkeypatch.setattr(
        dop,
        'render_page',
        lambda digits, *args: written.extend(map(bytes, digits)) or render_page(digits, *args),
    )
    for index in range(10):
        dop.render_split_page('val', index)
    assert written
    assert set(written) <= {image.tobytes() for image in dop.load_split(0)['val'][0]}


@pytest.mark.parametrize('seed', range(5))
def test_boxes_are_tight_around_the_masks(digits, seed):
    style = dop.PageStyle()
    placements = dop.place_digits(*digits, np.random.default_rng(seed), style)
    assert placements
    for alpha, x, y, label in placements:
        page = np.zeros((style.page_size, style.page_size), dtype=np.float32)
        page[y : y + alpha.shape[0], x : x + alpha.shape[1]] = alpha
        rows, columns = np.nonzero(page > dop.ALPHA_THRESHOLD)
        box = dop.Placement(alpha, x, y, label).box
        assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize('seed', range(5))
def test_boxes_match_the_ink_in_the_image(digits, seed):
    """Without blur and noise, a written page differs from the blank one by the ink alone."""
    image, boxes, labels = dop.render_page(*digits, np.random.default_rng(seed), NOISELESS)
    blank, no_boxes, no_labels = dop.render_page(
        digits[0][:0], digits[1][:0], np.random.default_rng(seed), NOISELESS
    )
    assert no_boxes.shape == (0, 4) and no_labels.shape == (0,)
    assert len(boxes) == len(labels) > 0
    ink = np.abs(image.astype(int) - blank).max(axis=2)
    outside = ink.copy()
    for x1, y1, x2, y2 in boxes.astype(int):
        inside = ink[y1:y2, x1:x2]
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > 0.1 * inside.max()
        outside[y1:y2, x1:x2] = 0
    # Only the antialiased fringe, whose alpha is below the threshold, lies outside.
    assert outside.max() <= 255 * dop.ALPHA_THRESHOLD


def test_boxes_lie_on_the_page_apart_and_of_the_requested_height():
    style = dop.PageStyle(min_size=20, max_size=40, gap=2)
    heights = []
    for index in range(60):
        image, boxes, labels = dop.render_split_page('train', index, 0, style)
        assert image.shape == (160, 160, 3) and image.dtype == np.uint8
        assert boxes.dtype == np.float32 and boxes.shape == (len(labels), 4)
        assert len(labels) <= style.max_digits
        assert (boxes >= 0).all() and (boxes <= 160).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        for i, first in enumerate(boxes):
            for second in boxes[:i]:
                distance = np.maximum(first[:2] - second[2:], second[:2] - first[2:]).max()
                assert distance >= style.gap
        heights.extend(boxes[:, 3] - boxes[:, 1])
    assert 19 <= min(heights) < 23 and 35 < max(heights) <= 41


def test_largest_glyphs_of_any_shape_fit():
    style = dop.PageStyle(
        page_size=32, min_size=25.6, max_size=25.6, max_rotation=30, max_shear=0.3, max_stretch=0.2
    )
    images, labels = dop.load_split(0)['val']
    for i in range(0, len(images), 4):
        placements = dop.place_digits(
            images[i : i + 1], labels[i : i + 1], np.random.default_rng(i), style
        )
        assert [p.label for p in placements] == [labels[i]]


def test_empty_pages_occur_as_often_as_asked():
    style = dop.PageStyle(empty_fraction=1)
    image, boxes, labels = dop.render_split_page('val', 0, 0, style)
    assert image.shape == (160, 160, 3) and len(boxes) == len(labels) == 0
    style = dop.PageStyle(empty_fraction=0)
    assert all(len(dop.render_split_page('val', i, 0, style)[1]) for i in range(20))


def test_generation_is_deterministic(dataset, tmp_path):
    again = dop.generate(tmp_path / 'again', **PAGES, seed=3, workers=2)
    assert read_tree(again) == read_tree(dataset)
    other = read_tree(dop.generate(tmp_path / 'other', **PAGES, seed=4, workers=1))
    assert all(other[name] != content for name, content in read_tree(dataset).items())


def test_annotations_are_those_of_the_pages(dataset):
    seen = set()
    for split, count in (('train', 24), ('val', 8)):
        content = json.loads((dataset / 'annotations' / f'{split}.json').read_text())
        assert content['info']['seed'] == 3
        assert [(c['id'], c['name']) for c in content['categories']] == [
            (digit + 1, str(digit)) for digit in range(10)
        ]
        assert len(content['images']) == count
        assert [a['id'] for a in content['annotations']] == list(
            range(1, len(content['annotations']) + 1)
        )
        for index, entry in enumerate(content['images']):
            image, boxes, labels = dop.render_split_page(split, index, 3)
            stored = cv2.imread(str(dataset / split / entry['file_name']))
            assert np.array_equal(stored, image)
            assert (entry['width'], entry['height']) == (160, 160)
            own = [a for a in content['annotations'] if a['image_id'] == entry['id']]
            assert [a['category_id'] - 1 for a in own] == labels.tolist()
            for annotation, (x1, y1, x2, y2) in zip(own, boxes, strict=True):
                assert annotation['bbox'] == [x1, y1, x2 - x1, y2 - y1]
                assert annotation['area'] == (x2 - x1) * (y2 - y1)
                assert annotation['iscrowd'] == 0
        seen.update(a['category_id'] for a in content['annotations'])
    assert seen == set(range(1, 11))


def test_coco_api_loads_it(dataset):
    coco = pytest.importorskip('pycocotools.coco').COCO(str(dataset / 'annotations/val.json'))
    assert len(coco.getImgIds()) == 8
    assert len(coco.loadCats(coco.getCatIds())) == 10
    assert coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds()))


def test_complete_data_set_is_left_alone(tmp_path, capsys):
    pages = dict(train_pages=4, val_pages=2, workers=1)
    dop.generate(tmp_path, **pages)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    dop.generate(tmp_path, **pages, verbose=True)
    assert 'up to date' in capsys.readouterr().err
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}


def test_incomplete_or_different_data_set_is_redone(tmp_path):
    pages = dict(train_pages=4, val_pages=2, workers=1)
    before = read_tree(dop.generate(tmp_path, **pages))
    (tmp_path / 'train' / '000002.png').unlink()
    assert read_tree(dop.generate(tmp_path, **pages)) == before
    (tmp_path / 'annotations' / 'train.json').unlink()
    assert read_tree(dop.generate(tmp_path, **pages)) == before

    (tmp_path / 'train' / 'notes.txt').write_text('mine')
    dop.generate(tmp_path, train_pages=3, val_pages=2, workers=1)
    assert sorted(path.name for path in (tmp_path / 'train').iterdir()) == [
        '000001.png',
        '000002.png',
        '000003.png',
        'notes.txt',
    ]


@pytest.mark.parametrize('content', ['{"info": {"description": "COCO 2017"}}', '[]', 'no json'])
def test_annotations_of_another_data_set_are_kept(tmp_path, content):
    foreign = tmp_path / 'annotations' / 'train.json'
    foreign.parent.mkdir()
    foreign.write_text(content)
    with pytest.raises(ValueError, match='another data set'):
        dop.generate(tmp_path, **PAGES, workers=1)
    assert foreign.read_text() == content


def test_single_digits():
    images, labels = dop.single_digits('train', 40, 48, seed=0)
    assert images.shape == (40, 48, 48, 3) and images.dtype == np.uint8
    assert labels.shape == (40,) and 0 <= labels.min() and labels.max() <= 9
    assert images.std(axis=(1, 2, 3)).min() > 5  # there is ink on every one
    again = dop.single_digits('train', 40, 48, seed=0)
    assert np.array_equal(images, again[0]) and np.array_equal(labels, again[1])
    assert dop.single_digits('val', 0, 48)[0].shape == (0, 48, 48, 3)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(min_size=0), 'min_size is 0'),
        (dict(min_size=float('nan')), 'min_size is nan'),
        (dict(max_size=129), 'max_size is 129'),
        (dict(min_size=50, max_size=40), 'min_size is 50'),
        (dict(page_size=8), 'page_size is 8'),
        (dict(max_digits=0), 'max_digits is 0'),
        (dict(empty_fraction=1.5), 'empty_fraction is 1.5'),
        (dict(max_noise=-1), 'max_noise is -1'),
    ],
)
def test_style_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        dop.PageStyle(**values)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(train_pages=-1), 'train_pages is -1'),
        (dict(val_pages=0), 'val_pages is 0'),
        (dict(workers=0), 'workers is 0'),
        (dict(seed=-2), 'seed is -2'),
    ],
)
def test_generate_out_of_range(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        dop.generate(tmp_path / 'out', **values)
    assert not (tmp_path / 'out').exists()


def test_malformed_arguments(digits):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r'shape \(16, 16\)'):
        dop.render_digit(np.zeros((16, 16)), 20, rng, dop.PageStyle())
    with pytest.raises(ValueError, match='some ink'):
        dop.render_digit(np.zeros((8, 8)), 20, rng, dop.PageStyle())
    with pytest.raises(ValueError, match='6 digits and 5 labels'):
        dop.render_page(digits[0], digits[1][:5], rng, dop.PageStyle())
    with pytest.raises(ValueError, match="split is 'test'"):
        dop.render_split_page('test', 0)
    with pytest.raises(ValueError, match='size is 16'):
        dop.render_single(digits[0][0], rng, 16)
    with pytest.raises(ValueError, match='n is -1'):
        dop.single_digits('train', -1, 32)
