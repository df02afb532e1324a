# RT-DETR on VanillaNet, with the light neck and decoder of RT-DETR-R18.
# A member of the family sets model.backbone.arch.
_base_ = './rtdetr.py'

model = dict(
    # VanillaNet's ImageNet weights expect this normalisation.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='VanillaNet',
        # ImageNet weights, whose address follows from arch and act_num. Other widths have none and
        # set init_cfg=None.
        init_cfg=dict(type='Pretrained', checkpoint='authors'),
    ),
    neck=dict(expansion=0.5),
    bbox_head=dict(num_decoder_layers=3),
)
