# RT-DETR's schedule: 72 epochs at a total batch of 16 (4 GPUs x 4 images), constant learning rate
# after the warm-up, exponential moving average of weights and buffers.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

train_cfg = dict(max_epochs=72)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='ParamGroupOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0, bias_decay_mult=0
    ),
)
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=1e-4,
        gamma=2000,
        update_buffers=True,
        priority=49,
    ),
]
# Where several processes train, they share the statistics of a batch.
sync_bn = 'torch'
auto_scale_lr = dict(base_batch_size=16)
