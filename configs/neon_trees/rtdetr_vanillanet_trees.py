# A small RT-DETR-VanillaNet from scratch on tree crowns seen from above.
_base_ = [
    '../_base_/models/rtdetr_vanillanet.py',
    '../_base_/datasets/neon_trees_416.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='6', widen_factor=1 / 8),
    neck=dict(out_channels=128, feedforward_channels=256),
    bbox_head=dict(
        num_classes=1,
        embed_dims=128,
        feedforward_channels=256,
        num_decoder_layers=3,
        num_queries=150,
        num_denoising=100,
    ),
    test_cfg=dict(max_per_img=150),
)
# There are 42 tiles.
max_epochs = 200
train_cfg = dict(max_epochs=max_epochs, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs - max_epochs // 2,
        convert_to_iter_based=True,
    ),
]
