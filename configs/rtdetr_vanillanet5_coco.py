_base_ = './rtdetr_vanillanet6_coco.py'

model = dict(backbone=dict(arch='5'))
