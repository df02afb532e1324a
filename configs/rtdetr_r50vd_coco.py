_base_ = [
    './_base_/models/rtdetr_r50vd.py',
    './_base_/rtdetr_coco.py',
]
