_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(backbone=dict(arch='13_x1_5'))
