# Trains six decoder layers and uses the third.
_base_ = './deim_rtdetrv2_r50vd_coco.py'

model = dict(neck=dict(expansion=0.5), bbox_head=dict(eval_idx=2))
