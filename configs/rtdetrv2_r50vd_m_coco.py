_base_ = './rtdetr_r50vd_m_coco.py'

model = dict(bbox_head=dict(num_points=[4, 4, 4]))
train_cfg = dict(max_epochs=84)
