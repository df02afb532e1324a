# RT-DETR as the authors build it on ResNet-50 (https://arxiv.org/abs/2304.08069).
# A member of the family adds its backbone; in_channels of neck and head follow from it.
model = dict(
    type='RTDETR',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # The authors only divide by 255.
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    neck=dict(type='RTDETRHybridEncoder', out_channels=256, expansion=1.0),
    bbox_head=dict(
        type='RTDETRHead',
        num_classes=80,
        num_queries=300,
        num_decoder_layers=6,
        num_denoising=100,
        loss_cls=dict(type='RTDETRVarifocalLoss', alpha=0.75, gamma=2.0, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', eps=1e-9, loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='BatchedHungarianMatcher', cls_weight=2.0, l1_weight=5.0, giou_weight=2.0
        )
    ),
    test_cfg=dict(max_per_img=300),
)
