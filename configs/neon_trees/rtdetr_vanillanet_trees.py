# A small RT-DETR-VanillaNet from scratch on tree crowns seen from above.
_base_ = [
    '../_base_/models/rtdetr_vanillanet6_eighth.py',
    '../_base_/datasets/neon_trees_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=1))
# The schedule is made for a few hundred images; there are 42 tiles.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset={{_base_.train_dataloader.dataset}},
    )
)
