# 60 epochs, with the backbone's normalisation and stem trained too.
_base_ = [
    './_base_/models/rtdetr_r50vd.py',
    './_base_/deim_coco.py',
]

model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False),
    bbox_head={{_base_.deim_head}},
)
train_cfg = dict(max_epochs=60)
param_scheduler = [
    dict(type='QuadraticWarmupLR', by_epoch=False, begin=0, end=2000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.5,
        by_epoch=True,
        begin=34,
        end=57,
        T_max=23,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    pipeline_switch=dict(switch_epoch=57),
    batch_augments=dict(schedule=dict(mosaic=dict(end=34), mixup=dict(end=34))),
)
