_base_ = [
    './_base_/models/rtdetr_vanillanet.py',
    './_base_/rtdetrv2_coco.py',
]

model = dict(backbone=dict(arch='6'), bbox_head=dict(num_points=[4, 4, 4], xavier_init=True))
# Runs when the training is from scratch; stays off with pretrained weights.
default_hooks = dict(deep_training=dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False))
