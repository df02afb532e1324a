# What small data sets in COCO format share that have no top and no left: train.json, val.json and
# test.json beside the folders of their images, at 320x320. A data set adds data_root, metainfo and
# the evaluators' ann_file.
dataset_type = 'RobustCocoDataset'
img_scale = (320, 320)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomPhotometricDistort'),
    dict(type='RandomIoUCrop'),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='Resize', scale=img_scale, keep_ratio=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=img_scale, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler', drop_last=True),
    dataset=dict(
        type=dataset_type,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
_evaluation = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
_evaluated = dict(type=dataset_type, test_mode=True, pipeline=test_pipeline)
val_dataloader = dict(
    **_evaluation,
    dataset=dict(
        **_evaluated, ann_file='val.json', data_prefix=dict(img='val/'), unreadable='blank'
    ),
)
test_dataloader = dict(
    **_evaluation,
    dataset=dict(**_evaluated, ann_file='test.json', data_prefix=dict(img='test/')),
)
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_evaluator = dict(type='CocoMetric', metric='bbox')
