# Strides 6, 12 and 24: adaptive pooling halves whatever size comes in.
_base_ = './rtdetrv2_vanillanet6_coco.py'

model = dict(backbone=dict(arch='13_x1_5_ada_pool'))
