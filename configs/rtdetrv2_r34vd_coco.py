_base_ = './rtdetr_r34vd_coco.py'

model = dict(bbox_head=dict(num_points=[4, 4, 4]))
train_cfg = dict(max_epochs=120)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
