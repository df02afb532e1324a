_base_ = './rtdetrv2_r50vd_coco.py'

model = dict(backbone=dict(depth=101), neck=dict(out_channels=384, feedforward_channels=2048))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01))))
