_base_ = './rtdetr_vanillanet_deim_bccd.py'

default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
