# How RT-DETRv2 is trained on COCO (https://arxiv.org/abs/2407.17140): the strong augmentation and
# the changing sizes end before the training does. The authors train in mixed precision (--amp).
_base_ = './rtdetr_coco.py'

# Biases are decayed, in all but R34.
optim_wrapper = dict(paramwise_cfg=dict(bias_decay_mult=1))
default_hooks = dict(
    pipeline_switch=dict(
        type='PipelineSwitchHook',
        switch_epoch=71,
        switch_pipeline={{_base_.plain_pipeline}},
    ),
    batch_augments=dict(schedule=dict(multi_scale=dict(end=71))),
)
