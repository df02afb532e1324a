"""Small detectors of several kinds, their checkpoints, and a small data set."""

import copy
import json

import cv2
import numpy as np
import torch
from helpers import CONFIGS, TINY_RTDETR, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config

CLASSES = ('a', 'b', 'c', 'd')
PREPROCESSOR = dict(
    type='DetDataPreprocessor',
    mean=[123.0, 116.0, 103.0],
    std=[58.0, 57.0, 57.0],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
BACKBONE = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_eval=True,
    style='pytorch',
    init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
)
RETINANET = dict(
    type='RetinaNet',
    backbone=BACKBONE,
    neck=dict(
        type='FPN',
        in_channels=[8, 16, 32, 64],
        out_channels=16,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5,
    ),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=4,
        in_channels=16,
        stacked_convs=1,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss'),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=100,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=20,
    ),
)


def config_text(model, size=(96, 96), keep_ratio=False, epochs=4):
    """A config by which a model trains and tests, as text."""
    model = dict(copy.deepcopy(model), data_preprocessor=PREPROCESSOR)
    resize = dict(type='Resize', scale=size, keep_ratio=keep_ratio)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    test = [
        dict(type='LoadImageFromFile'),
        resize,
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=keys),
    ]
    train = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        resize,
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]

    def loader(pipeline, batch_size, **dataset):
        return dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle='test_mode' not in dataset),
            dataset=dict(
                type='CocoDataset',
                metainfo=dict(classes=CLASSES),
                ann_file='elsewhere.json',
                data_prefix=dict(img=''),
                pipeline=pipeline,
                **dataset,
            ),
        )

    evaluator = dict(type='CocoMetric', ann_file='elsewhere.json', metric='bbox')
    cfg = dict(
        default_scope='mmdet',
        custom_imports=dict(imports=['mmdet_vanilla']),
        model=model,
        test_pipeline=test,
        train_dataloader=loader(train, 2),
        val_dataloader=loader(test, 1, test_mode=True),
        test_dataloader=loader(test, 1, test_mode=True),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            timer=dict(type='IterTimerHook'),
            logger=dict(type='LoggerHook', interval=1),
            param_scheduler=dict(type='ParamSchedulerHook'),
            checkpoint=dict(type='CheckpointHook', interval=1),
            sampler_seed=dict(type='DistSamplerSeedHook'),
        ),
        visualizer=dict(
            type='DetLocalVisualizer',
            vis_backends=[dict(type='LocalVisBackend')],
            name='visualizer',
        ),
        log_processor=dict(type='LogProcessor', window_size=1, by_epoch=True),
    )
    return Config(cfg).pretty_text


def write_config(folder, name, model, **options):
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f'{name}.py'
    path.write_text(config_text(model, **options))
    return path


def write_checkpoint(path, model, classes=CLASSES):
    cfg = copy.deepcopy(dict(model, data_preprocessor=PREPROCESSOR))
    if 'backbone' in cfg:
        cfg['backbone'].pop('init_cfg', None)
    model = stand_in_weights(MODELS.build(cfg))
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=classes))), path
    )
    return path


def export(config, weights, folder, image, runtime='onnxruntime', suffix='onnx'):
    """The file that tools/deploy.py makes of a detector."""
    from mmdet_vanilla.deploy.ship import ship

    deploy = Config.fromfile(CONFIGS / 'deploy' / f'{runtime}_dynamic.py')
    ship(Config.fromfile(config), str(weights), deploy, folder, [image], rounds=1)
    return folder / f'end2end.{suffix}'


def make_data(root, images=6, classes=CLASSES, splits=('train', 'val', 'test')):
    """A folder with ``train.json``, ``train/`` and so on: bright rectangles on noise."""
    rng = np.random.default_rng(0)
    for split in splits:
        (root / split).mkdir(parents=True)
        content = dict(images=[], annotations=[])
        content['categories'] = [dict(id=10 * (i + 1), name=n) for i, n in enumerate(classes)]
        for i in range(1, images + 1):
            height, width = (80, 120) if i % 2 else (100, 70)
            image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
            for _ in range(i % 3 + 1):
                w, h = (int(n) for n in rng.integers(16, 40, 2))
                x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
                label = int(rng.integers(0, len(classes)))
                image[y : y + h, x : x + w] = 90 + 40 * label
                content['annotations'].append(
                    dict(
                        id=len(content['annotations']) + 1,
                        image_id=i,
                        category_id=10 * (label + 1),
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(root / split / f'{i}.png'), image)
            content['images'].append(dict(id=i, file_name=f'{i}.png', height=height, width=width))
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


__all__ = [
    'CLASSES',
    'RETINANET',
    'TINY_RTDETR',
    'export',
    'make_data',
    'write_checkpoint',
    'write_config',
]
