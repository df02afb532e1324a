_base_ = './rtdetr.py'

model = dict(
    # Convolutions without groups: on Tensor Cores as well they want this layout.
    channels_last=True,
    backbone=dict(
        type='ResNetVd',
        depth=18,
        out_indices=(1, 2, 3),
        norm_eval=False,
        # ImageNet weights, whose address follows from depth.
        init_cfg=dict(type='Pretrained', checkpoint='authors'),
    ),
    neck=dict(expansion=0.5),
    bbox_head=dict(num_decoder_layers=3),
)
