_base_ = [
    './_base_/models/rtdetr_r18vd.py',
    './_base_/rtdetrv2_coco.py',
]

model = dict(
    backbone=dict(depth=34),
    bbox_head=dict(num_decoder_layers=4, num_points=[4, 4, 4], xavier_init=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5)), bias_decay_mult=0)
)
train_cfg = dict(max_epochs=120)
default_hooks = dict(
    pipeline_switch=dict(switch_epoch=117),
    batch_augments=dict(schedule=dict(multi_scale=dict(end=117))),
)
