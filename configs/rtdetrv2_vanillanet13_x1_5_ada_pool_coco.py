_base_ = './rtdetr_vanillanet13_x1_5_ada_pool_coco.py'

model = dict(bbox_head=dict(num_points=[4, 4, 4]))
