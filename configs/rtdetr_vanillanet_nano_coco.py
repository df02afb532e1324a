# VanillaNet-9 at an eighth of its width.
_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(
    backbone=dict(arch='9', widen_factor=1 / 8),
    neck=dict(out_channels=128, feedforward_channels=256),
    bbox_head=dict(embed_dims=128, feedforward_channels=256),
)
