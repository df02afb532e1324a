# mmdet's RetinaNet on a ResNet-18 of a quarter of its width, from scratch, for comparison.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/bccd_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=18, base_channels=16, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=96),
    bbox_head=dict(num_classes=3, in_channels=96, feat_channels=96, stacked_convs=3),
)
# As ours is laid out on a CPU.
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
