_base_ = './rtdetr_vanillanet9_coco.py'

model = dict(bbox_head=dict(num_points=[4, 4, 4]))
