# BCCD: 364 photographs of blood smears, 640x480, with boxes around three kinds of cells
# (https://github.com/Shenggan/BCCD_Dataset), as COCO json with the splits 205/87/72.
_base_ = './small_coco_320.py'

data_root = 'data/bccd/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + 'test.json')
