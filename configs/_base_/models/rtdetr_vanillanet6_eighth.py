# VanillaNet-6 at an eighth of its width, neck and decoder at half of theirs: for small data.
_base_ = './rtdetr_vanillanet.py'

model = dict(
    # The authors publish no weights of this width.
    backbone=dict(arch='6', widen_factor=1 / 8, init_cfg=None),
    neck=dict(out_channels=128, feedforward_channels=256),
    bbox_head=dict(
        embed_dims=128,
        feedforward_channels=256,
        num_queries=100,
        num_denoising=50,
    ),
    test_cfg=dict(max_per_img=100),
)
