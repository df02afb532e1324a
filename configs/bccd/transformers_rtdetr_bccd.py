# RT-DETR of Hugging Face's transformers on a ResNet-18-vd of a quarter of its width, from scratch,
# for comparison. Needs requirements/peers.txt.
_base_ = [
    '../_base_/datasets/bccd_320.py',
    '../_base_/schedules/small_data.py',
    '../_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmdet_vanilla', 'mmdet_vanilla.benchmark.transformers_detector'])
model = dict(
    type='TransformersRTDETR',
    num_classes=3,
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True
    ),
    backbone=dict(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 128],
        depths=[2, 2, 2, 2],
        layer_type='basic',
        out_features=['stage2', 'stage3', 'stage4'],
    ),
    model=dict(
        encoder_in_channels=[32, 64, 128],
        encoder_hidden_dim=128,
        encoder_ffn_dim=256,
        hidden_expansion=0.5,
        d_model=128,
        decoder_in_channels=[128, 128, 128],
        decoder_ffn_dim=256,
        decoder_layers=3,
        num_queries=100,
        num_denoising=50,
        freeze_backbone_batch_norms=False,
    ),
)
# As ours is laid out on a CPU.
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
