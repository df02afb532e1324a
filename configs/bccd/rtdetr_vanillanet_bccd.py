# A small RT-DETR-VanillaNet from scratch on BCCD.
_base_ = [
    '../_base_/models/rtdetr_vanillanet.py',
    '../_base_/datasets/bccd_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='6', widen_factor=1 / 8),
    neck=dict(out_channels=128, feedforward_channels=256),
    bbox_head=dict(
        num_classes=3,
        embed_dims=128,
        feedforward_channels=256,
        num_decoder_layers=3,
        num_queries=100,
        num_denoising=50,
    ),
    test_cfg=dict(max_per_img=100),
)
