# RT-DETR's schedule with an average over hundreds of iterations in place of ten thousand.
_base_ = './rtdetr_6x.py'

custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=2e-3,
        gamma=200,
        update_buffers=True,
        priority=49,
    ),
]
