_base_ = [
    './_base_/models/rtdetr_r50vd.py',
    './_base_/rtdetrv2_coco.py',
]

model = dict(bbox_head=dict(num_points=[4, 4, 4], xavier_init=True))
