# With DEIM's loss and dense one-to-one matching; the schedule is flat and then falling anyhow.
_base_ = './rtdetr_vanillanet_bccd.py'

model = dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='MatchabilityAwareLoss')))
default_hooks = dict(
    batch_augments=dict(
        type='BatchAugmentScheduleHook',
        schedule=dict(
            mosaic=dict(augment=dict(type='BatchMosaic', prob=0.5), begin=2, end=20),
            mixup=dict(augment=dict(type='BatchMixUp', prob=0.5), begin=2, end=20),
        ),
    )
)
