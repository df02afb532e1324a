# For quick work: 12 epochs.
_base_ = './rtdetr_vanillanet6_coco.py'

train_cfg = dict(max_epochs=12)
