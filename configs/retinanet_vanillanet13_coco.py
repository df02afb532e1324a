# RetinaNet on VanillaNet-13 as the VanillaNet authors trained it, from their ImageNet weights for
# act_num 4.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    './_base_/schedules/vanillanet_detection_1x.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VanillaNet',
        arch='13',
        act_num=4,
        norm_cfg=dict(type='SyncBN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint='authors'),
    ),
    neck=dict(in_channels=[1024, 2048, 4096], start_level=0),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    {{_base_.multi_scale_resize}},
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(pipeline=train_pipeline))

# Runs when the training is from scratch; stays off with pretrained weights.
default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
