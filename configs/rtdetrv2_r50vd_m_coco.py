# Trains six decoder layers and uses the third.
_base_ = './rtdetrv2_r50vd_coco.py'

model = dict(neck=dict(expansion=0.5), bbox_head=dict(eval_idx=2))
train_cfg = dict(max_epochs=84)
default_hooks = dict(
    pipeline_switch=dict(switch_epoch=81),
    batch_augments=dict(schedule=dict(multi_scale=dict(end=81))),
)
