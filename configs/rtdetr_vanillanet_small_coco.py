# VanillaNet-9 at half its width: a backbone about as costly as ResNet-18-vd.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    # The authors publish no weights of this width: it starts from random ones.
    backbone=dict(arch='9', widen_factor=1 / 2, init_cfg=None),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
