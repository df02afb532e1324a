# How RT-DETR is trained on COCO: data and augmentation, schedule, and the training size, which
# changes from batch to batch.
_base_ = [
    './datasets/coco_640.py',
    './schedules/rtdetr_6x.py',
    './default_runtime.py',
]

default_hooks = dict(
    batch_augments=dict(
        type='BatchAugmentScheduleHook',
        schedule=dict(multi_scale=dict(augment=dict(type='BatchRandomResize'))),
    )
)
