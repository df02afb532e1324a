_base_ = [
    './_base_/models/rtdetr_vanillanet.py',
    './_base_/deim_coco.py',
]

model = dict(
    backbone=dict(arch='6'),
    bbox_head=dict(
        num_points=[4, 4, 4],
        xavier_init=True,
        act_cfg=dict(type='SiLU', inplace=True),
        loss_cls=dict(_delete_=True, type='MatchabilityAwareLoss'),
    ),
)
default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
