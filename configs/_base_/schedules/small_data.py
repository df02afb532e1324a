# From scratch on a few hundred images: a higher learning rate than COCO's recipe, flat and then
# falling, and an average over fewer iterations.
_base_ = './short_average.py'

max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
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
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='ParamGroupOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0, bias_decay_mult=0),
)
auto_scale_lr = dict(base_batch_size=4)
