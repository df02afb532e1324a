_base_ = './deim_rtdetrv2_r18vd_coco.py'

model = dict(backbone=dict(depth=34), bbox_head=dict(num_decoder_layers=4))
