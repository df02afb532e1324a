"""Training goes on without images that cannot be read, and names them."""

import json

import numpy as np
import pytest
from helpers import TINY_RTDETR, tiny_runner
from mmdet.registry import DATASETS
from odd_images import SIZE, bad_images, good_images, strange_shapes

from mmdet_vanilla.datasets import UnreadableImagesError
from mmdet_vanilla.utils.images import ImageError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False),
    dict(type='PackDetInputs'),
]


def write_annotations(folder, sizes, box=(0, 0, 1, 1)):
    content = dict(images=[], annotations=[], categories=[dict(id=1, name='a')])
    for i, (name, (width, height)) in enumerate(sizes.items(), 1):
        content['images'].append(dict(id=i, file_name=name, width=width, height=height))
        content['annotations'].append(
            dict(id=i, image_id=i, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0)
        )
    (folder / 'train.json').write_text(json.dumps(content))


def build(folder, **settings):
    return DATASETS.build(
        dict(
            type='RobustCocoDataset',
            data_root=str(folder),
            ann_file='train.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=('a',)),
            pipeline=PIPELINE,
            **settings,
        )
    )


@pytest.fixture
def odd(tmp_path):
    """One image of every kind; names of the bad ones."""
    good = good_images(tmp_path)
    sizes = {name: SIZE for name in good}
    sizes.update(strange_shapes(tmp_path))
    bad = bad_images(tmp_path)
    sizes.update({name: SIZE for name in bad})
    write_annotations(tmp_path, sizes)
    return tmp_path, bad


def test_the_next_image_takes_the_place(odd):
    folder, bad = odd
    dataset = build(folder)
    state = np.random.get_state()[1].copy()
    names = [dataset.get_data_info(i)['img_path'].rsplit('/', 1)[-1] for i in range(len(dataset))]
    assert set(bad) < set(names)
    for i, name in enumerate(names):
        sample = dataset[i]['data_samples']
        left_out = sample.get('left_out_images')
        if name in bad:
            after = (names + names)[i:]
            assert sample.img_path.endswith(next(n for n in after if n not in bad))
            assert any(name in message and bad[name] in message for message in left_out)
        else:
            assert sample.img_path.endswith(name) and not left_out
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_in_evaluation(odd):
    folder, bad = odd
    dataset = build(folder, test_mode=True)
    index = len(dataset) - 1
    with pytest.raises(ImageError, match='missing.jpg'):
        dataset[index]
    blank = build(folder, test_mode=True, unreadable='blank')[index]
    assert blank['inputs'].shape == (3, 64, 64) and not blank['inputs'].any()
    assert blank['data_samples'].ori_shape == SIZE[::-1]
    assert blank['data_samples'].img_id == index + 1
    with pytest.raises(ValueError, match='unreadable'):
        build(folder, test_mode=True, unreadable='skip')


def test_all_bad(tmp_path):
    bad = bad_images(tmp_path)
    write_annotations(tmp_path, {name: SIZE for name in bad})
    with pytest.raises(UnreadableImagesError, match=f'{len(bad)} images.*check_data'):
        build(tmp_path)[0]


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_names_what_it_left_out(odd, workers):
    folder, bad = odd
    model = dict(bbox_head=dict(TINY_RTDETR['bbox_head'], num_classes=1))
    loader = dict(
        dataset=build(folder),
        batch_size=4,
        num_workers=workers,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = tiny_runner(
        folder / 'run',
        model,
        hooks=[dict(type='LeftOutImagesHook')],
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
    )
    runner.train()
    assert runner.epoch == 1 and runner.iter == -(-len(loader['dataset']) // 4)
    log = next((folder / 'run').glob('*/*.log')).read_text()
    assert f'{len(bad)} images could not be read' in log
    for name in bad:
        assert log.count(f'Left out: {folder}/{name}') + log.count(f'image {folder}/{name}') >= 1
        assert name in log.split('could not be read')[-1]
