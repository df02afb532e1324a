# For quick work: 12 epochs.
_base_ = './rtdetr_r18vd_coco.py'

train_cfg = dict(max_epochs=12)
