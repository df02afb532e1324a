_base_ = './rtdetr.py'

model = dict(
    # Convolutions without groups: on Tensor Cores as well they want this layout.
    channels_last=True,
    backbone=dict(
        type='ResNetVd',
        depth=50,
        out_indices=(1, 2, 3),
        # The authors train ResNet-50 and -101 with frozen normalisation and stem.
        frozen_stages=0,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        # ImageNet weights, whose address follows from depth.
        init_cfg=dict(type='Pretrained', checkpoint='authors'),
    ),
)
