# VanillaNet-9 at an eighth of its width.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    # The authors publish no weights of this width: it starts from random ones.
    backbone=dict(arch='9', widen_factor=1 / 8, init_cfg=None),
    neck=dict(out_channels=128, feedforward_channels=256),
    bbox_head=dict(embed_dims=128, feedforward_channels=256),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
