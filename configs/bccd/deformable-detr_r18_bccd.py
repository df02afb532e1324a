# Deformable DETR of mmdet with box refinement on a ResNet-18 of a quarter of its width, from
# scratch, for comparison. Its two-stage form works with 256 channels only, at three times the cost.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/bccd_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

model = dict(
    _delete_=True,
    type='DeformableDETR',
    num_queries=100,
    num_feature_levels=3,
    with_box_refine=True,
    as_two_stage=False,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=16,
        out_indices=(1, 2, 3),
        style='pytorch',
        # From scratch, normalisation has to be trained.
        frozen_stages=-1,
        norm_eval=False,
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[32, 64, 128],
        kernel_size=1,
        out_channels=128,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=3,
    ),
    encoder=dict(
        num_layers=3,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=128, num_levels=3, batch_first=True),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.0),
        ),
    ),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=128, num_heads=8, dropout=0.0, batch_first=True),
            cross_attn_cfg=dict(embed_dims=128, num_levels=3, batch_first=True),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=64, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        num_classes=3,
        embed_dims=128,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100),
)
# As its authors do, what places the samples learns more slowly.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(sampling_offsets=dict(lr_mult=0.1), reference_points=dict(lr_mult=0.1))
    )
)
# As ours is laid out on a CPU.
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
