# A small RT-DETR-VanillaNet from scratch on BCCD.
_base_ = [
    '../_base_/models/rtdetr_vanillanet6_eighth.py',
    '../_base_/datasets/bccd_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=3))
