# VanillaNet-9 at a quarter of its width.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    backbone=dict(arch='9', widen_factor=1 / 4),
    neck=dict(out_channels=192, feedforward_channels=512),
    bbox_head=dict(embed_dims=192, feedforward_channels=512),
)
