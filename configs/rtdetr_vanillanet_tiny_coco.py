# VanillaNet-9 at a quarter of its width.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    # The authors publish no weights of this width: it starts from random ones.
    backbone=dict(arch='9', widen_factor=1 / 4, init_cfg=None),
    neck=dict(out_channels=192, feedforward_channels=512),
    bbox_head=dict(embed_dims=192, feedforward_channels=512),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
