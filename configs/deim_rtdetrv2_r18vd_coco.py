_base_ = [
    './_base_/models/rtdetr_r18vd.py',
    './_base_/deim_coco.py',
]

model = dict(bbox_head={{_base_.deim_head}})
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
