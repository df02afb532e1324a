_base_ = './rtdetrv2_vanillanet6_coco.py'

model = dict(backbone=dict(arch='11'))
