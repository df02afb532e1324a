# How the VanillaNet authors train detectors (their object_detection folder): 12 epochs at a total
# batch of 32 (8 GPUs x 4 images), AdamW, learning rates that fall towards the backbone's input.
# A member uses warm_up and multi_scale_resize where it differs from the rest.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='ParamGroupOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.6, norm_decay_mult=0, bias_decay_mult=0),
)
warm_up = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
param_scheduler = [
    warm_up,
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[10, 11], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=32)

multi_scale_resize = dict(
    type='RandomChoiceResize',
    scales=[(size, 1333) for size in range(480, 1025, 32)],
    keep_ratio=True,
)
