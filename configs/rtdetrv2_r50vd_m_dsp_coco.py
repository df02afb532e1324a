# Discrete sampling: a fine-tune of the bilinear model, without grid_sample. Set load_from to it.
_base_ = './rtdetrv2_r50vd_m_coco.py'

model = dict(bbox_head=dict(sampling_method='discrete'))
train_cfg = dict(max_epochs=36)
default_hooks = dict(
    pipeline_switch=dict(switch_epoch=33),
    batch_augments=dict(schedule=dict(multi_scale=dict(end=33))),
)
