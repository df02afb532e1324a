_base_ = './rtdetr_vanillanet12_coco.py'

model = dict(bbox_head=dict(num_points=[4, 4, 4]))
