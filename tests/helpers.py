"""What several tests need: weights that make outputs vary, data samples, small configs."""

import zlib
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'

TINY_RTDETR = dict(
    type='RTDETR',
    backbone=dict(type='VanillaNet', arch='5', widen_factor=1 / 64),
    neck=dict(type='RTDETRHybridEncoder', out_channels=32, feedforward_channels=32, expansion=0.5),
    bbox_head=dict(
        type='RTDETRHead',
        num_classes=4,
        embed_dims=32,
        feedforward_channels=32,
        num_heads=4,
        num_queries=10,
        num_decoder_layers=2,
        num_denoising=6,
    ),
)


@torch.no_grad()
def stand_in_weights(module, salt=0):
    """Fills a module with values that depend on names alone and keep activations alive.

    With default initialisation a VanillaNet in eval mode is constant, so that any comparison would
    pass.
    """
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or name.endswith('points_of_level'):
            continue
        rng = np.random.default_rng(zlib.crc32(f'{name}/{salt}'.encode()))
        if name.endswith('running_var') or (tensor.dim() == 1 and name.endswith('weight')):
            values = rng.uniform(0.5, 1.5, tensor.shape)
        elif tensor.dim() <= 1:
            values = rng.normal(0, 0.1, tensor.shape)
        else:
            values = rng.normal(0, np.prod(tensor.shape[1:]) ** -0.5, tensor.shape)
        tensor.copy_(torch.from_numpy(values))
    return module


def data_sample(boxes=(), labels=(), img_shape=(64, 64), batch_shape=None, scale_factor=(1.0, 1.0)):
    """A data sample with ground truth in input pixels."""
    batch_shape = batch_shape or img_shape
    ori_shape = tuple(round(n / s) for n, s in zip(img_shape, scale_factor[::-1]))
    sample = DetDataSample(
        metainfo=dict(
            img_shape=img_shape,
            batch_input_shape=batch_shape,
            pad_shape=batch_shape,
            ori_shape=ori_shape,
            scale_factor=scale_factor,
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return sample
