# NEON tree crowns (tools/dataset_converters/neon_trees.py): tiles of 400 px of aerial photographs,
# with up to 61 boxes in each; half of them are smaller than 41 px, 33 at this size.
_base_ = './small_coco_320.py'

data_root = 'data/neon_trees/'
metainfo = dict(classes=('Tree',))

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + 'test.json')
