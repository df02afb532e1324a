_base_ = [
    './_base_/models/rtdetr_r18vd.py',
    './_base_/rtdetrv2_coco.py',
]

model = dict(bbox_head=dict(num_points=[4, 4, 4], xavier_init=True))
# One learning rate for all, one training size.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
train_cfg = dict(max_epochs=120)
default_hooks = dict(
    pipeline_switch=dict(switch_epoch=117), batch_augments=dict(schedule=dict(_delete_=True))
)
