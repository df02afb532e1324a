_base_ = [
    './_base_/models/rtdetr_r18vd.py',
    './_base_/deim_coco.py',
]

model = dict(
    bbox_head=dict(
        num_points=[4, 4, 4],
        xavier_init=True,
        act_cfg=dict(type='SiLU', inplace=True),
        loss_cls=dict(_delete_=True, type='MatchabilityAwareLoss'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
