# Mask R-CNN on VanillaNet-13 as the VanillaNet authors trained it, from their ImageNet weights for
# act_num 4.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    './_base_/schedules/vanillanet_detection_1x.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VanillaNet',
        arch='13',
        act_num=4,
        out_indices=[0, 1, 8, 10],
        norm_cfg=dict(type='SyncBN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint='authors'),
    ),
    neck=dict(in_channels=[512, 1024, 2048, 4096]),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    {{_base_.multi_scale_resize}},
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=1.3e-4))
param_scheduler = [
    {{_base_.warm_up}},
    # The second step never comes, as in the authors' config.
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[10, 12], gamma=0.1),
]

# Runs when the training is from scratch; stays off with pretrained weights.
default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
