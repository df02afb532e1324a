"""Training steps on data at the limits: no box, very many, identical, tiny ones, many classes."""

import json
import math

import cv2
import numpy as np
import pytest
from helpers import TINY_RTDETR, tiny_runner
from mmdet.registry import DATASETS

from mmdet_vanilla.datasets.user_data import load_user_data

SIDE = 64


def write(root, boxes_of, num_classes=1):
    """A data set whose images have these lists of (class, x, y, w, h)."""
    rng = np.random.default_rng(0)
    (root / 'train').mkdir(parents=True)
    content = dict(images=[], annotations=[])
    content['categories'] = [dict(id=i, name=f'class {i}') for i in range(num_classes)]
    for i, boxes in enumerate(boxes_of):
        image = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'train' / f'{i}.png'), image)
        content['images'].append(dict(id=i, file_name=f'{i}.png', width=SIDE, height=SIDE))
        for label, *box in boxes:
            number = len(content['annotations'])
            item = dict(id=number, image_id=i, category_id=label, bbox=box)
            content['annotations'].append(item)
    (root / 'train.json').write_text(json.dumps(content))


def many(number):
    rng = np.random.default_rng(0)
    low = rng.integers(0, SIDE - 8, (number, 2))
    return [(0, int(x), int(y), 5, 4) for x, y in low]


CASES = dict(
    all_empty=([[]] * 4, 1),
    a_batch_of_empty_ones=([[], [], many(3), many(2)], 1),
    one_object=([[], [], [], [(0, 10, 10, 20, 20)]], 1),
    a_thousand_objects=([many(1000), [], many(1000), many(1)], 1),
    identical_boxes=([[(0, 10, 10, 20, 20)] * 30] * 4, 1),
    one_pixel_boxes=([[(0, 0, 0, 1, 1), (0, SIDE - 1, SIDE - 1, 1, 1)]] * 4, 1),
    whole_image=([[(0, 0, 0, SIDE, SIDE)]] * 4, 1),
    lvis_classes=([[(1202, 3, 4, 30, 30), (0, 9, 9, 20, 20)], [(600, 1, 1, 9, 9)]] * 2, 1203),
)


@pytest.mark.parametrize('name', CASES)
def test_losses_are_finite(tmp_path, name):
    boxes_of, num_classes = CASES[name]
    write(tmp_path / 'data', boxes_of, num_classes)
    data = load_user_data(str(tmp_path / 'data'), ('train',))
    assert len(data.classes) == num_classes
    split = data.splits['train']
    assert split.num_images == 4 and split.num_boxes == sum(map(len, boxes_of))
    dataset = DATASETS.build(
        dict(
            type='RobustCocoDataset',
            ann_file=split.ann_file,
            data_prefix=dict(img=split.image_dir),
            metainfo=dict(classes=data.classes),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='RandomIoUCrop'),
                dict(type='RandomFlip', prob=0.5),
                dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
                dict(type='Resize', scale=(SIDE, SIDE), keep_ratio=False),
                dict(type='PackDetInputs'),
            ],
        )
    )
    assert [len(dataset.get_data_info(i)['instances']) for i in range(4)] == [
        len(boxes) for boxes in boxes_of
    ]
    loader = dict(
        dataset=dataset,
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = tiny_runner(
        tmp_path / 'run',
        dict(bbox_head=dict(TINY_RTDETR['bbox_head'], num_classes=num_classes)),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
    )
    runner.train()
    assert runner.iter == 4
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 4 and all(map(math.isfinite, losses)) and (losses > 0).all()
    assert all(parameter.isfinite().all() for parameter in runner.model.parameters())
