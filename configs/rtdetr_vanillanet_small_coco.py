# VanillaNet-9 at half its width: a backbone about as costly as ResNet-18-vd.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    backbone=dict(arch='9', widen_factor=1 / 2),
)
