# With deep training over the first third.
_base_ = './rtdetr_vanillanet_bccd.py'

default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
