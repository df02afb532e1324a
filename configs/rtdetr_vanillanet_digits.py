# A small RT-DETR on a narrow VanillaNet-6, trained from scratch on "Digits on paper" in minutes.
_base_ = [
    './_base_/models/rtdetr_vanillanet.py',
    './_base_/datasets/digits_on_paper.py',
    './_base_/schedules/short_average.py',
    './_base_/default_runtime.py',
]

model = dict(
    # The authors publish no weights of this width.
    backbone=dict(arch='6', widen_factor=1 / 16, init_cfg=None),
    neck=dict(out_channels=96, feedforward_channels=192),
    bbox_head=dict(
        num_classes=10,
        embed_dims=96,
        feedforward_channels=192,
        num_decoder_layers=2,
        num_queries=60,
        num_denoising=40,
    ),
    test_cfg=dict(max_per_img=60),
)

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
base_lr = 1e-3
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=1,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(norm_decay_mult=0, bypass_duplicate=True),
)
