_base_ = [
    './_base_/models/rtdetr_vanillanet.py',
    './_base_/rtdetr_coco.py',
]

model = dict(backbone=dict(arch='6'))
# There are ImageNet weights to start from, but no default place for them: docs/training.md.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
