# How DEIM trains RT-DETRv2 on COCO (https://arxiv.org/abs/2412.04234), of 120 epochs. Against
# rtdetrv2_coco.py: strong augmentation begins at epoch 4, and until half of the rest mosaic and
# mixup make matches dense; the learning rate, twice as high, stays until then and falls to its
# half; no changing sizes.
# A member of the family takes deim_head as its model.bbox_head.
_base_ = './rtdetrv2_coco.py'

deim_head = dict(
    num_points=[4, 4, 4],
    xavier_init=True,
    act_cfg=dict(type='SiLU', inplace=True),
    loss_cls=dict(_delete_=True, type='MatchabilityAwareLoss'),
)

train_cfg = dict(max_epochs=120)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='QuadraticWarmupLR', by_epoch=False, begin=0, end=2000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.5,
        by_epoch=True,
        begin=64,
        end=117,
        T_max=53,
        convert_to_iter_based=True,
    ),
]
# Plain images at first, too.
train_dataloader = dict(dataset=dict(pipeline={{_base_.plain_pipeline}}))
default_hooks = dict(
    # Before the switch back to plain images, also when a run is resumed after both.
    augmentation_begin=dict(
        type='PipelineSwitchHook',
        priority='ABOVE_NORMAL',
        switch_epoch=4,
        switch_pipeline={{_base_.train_pipeline}},
    ),
    pipeline_switch=dict(switch_epoch=117),
    batch_augments=dict(
        schedule=dict(
            _delete_=True,
            mosaic=dict(augment=dict(type='BatchMosaic', prob=0.5), begin=4, end=64),
            mixup=dict(augment=dict(type='BatchMixUp', prob=0.5), begin=4, end=64),
        )
    ),
)
