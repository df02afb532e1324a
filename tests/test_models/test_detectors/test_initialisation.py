"""Every parameter of RT-DETR starts as the authors' does: mean, spread and support."""

import math
import re

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn


def fans(weight):
    receptive = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive, weight.shape[0] * receptive


def constant(value):
    return lambda weight: dict(low=value, high=value, mean=value, std=0.0)


def uniform(bound):
    return dict(low=-bound, high=bound, mean=0.0, std=bound / math.sqrt(3))


def default(weight):
    """PyTorch's for weights of linear and convolution layers."""
    return uniform(1 / math.sqrt(fans(weight)[0]))


def xavier(weight):
    return uniform(math.sqrt(6 / sum(fans(weight))))


def normal(std, bound=math.inf):
    return lambda weight: dict(low=-bound, high=bound, mean=0.0, std=std)


def default_bias(fan_in):
    return lambda bias: uniform(1 / math.sqrt(fan_in))


def rules(xavier_init, embed_dims, feedforward_channels):
    """The first pattern that matches a name tells its distribution."""
    v2 = xavier if xavier_init else default
    prior = -math.log(99)
    return [
        # VanillaNet: truncated normal, biases 0 (its `_init_weights`).
        (r'backbone\..*(\.bn|stem1\.1|stem2\.1|conv1\.1|conv2\.1)\.weight', constant(1)),
        (r'backbone\..*bias', constant(0)),
        (r'backbone\.', normal(0.02, 2)),
        # Normalisation everywhere.
        (r'.*norm\d?\.weight', constant(1)),
        (r'.*norm\d?\.bias', constant(0)),
        # Attention.
        (r'.*self_attn\.in_proj_weight', xavier),
        (r'.*self_attn\.in_proj_bias', constant(0)),
        (r'.*self_attn\.out_proj\.bias', constant(0)),
        (r'.*sampling_offsets\.weight', constant(0)),
        (r'.*sampling_offsets\.bias', lambda bias: dict(low=-4, high=4, mean=0.0, std=None)),
        (r'.*attention_weights\.', constant(0)),
        (r'.*(value|output)_proj\.weight', xavier),
        (r'.*(value|output)_proj\.bias', constant(0)),
        # Heads.
        (r'.*score_head.*bias', constant(prior)),
        (r'.*bbox_head.*layers\.2\.', constant(0)),
        (r'.*enc_output\.proj\.weight', xavier),
        (r'.*query_pos_head\..*weight', xavier),
        (r'.*query_pos_head\.layers\.0\.bias', default_bias(4)),
        (r'.*query_pos_head\.layers\.1\.bias', default_bias(2 * embed_dims)),
        (r'.*denoising_class_embed', normal(1.0)),
        (r'.*decoder\..*linear[12]\.weight', v2),
        (r'bbox_head\.input_proj\..*conv\.weight', v2),
        # The rest is PyTorch's.
        (r'.*linear2\.bias', default_bias(feedforward_channels)),
        (r'.*bias', default_bias(embed_dims)),
        (r'.*weight', default),
    ]


@pytest.mark.parametrize('xavier_init', [False, True])
def test_every_parameter_follows_the_published_rule(xavier_init):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='RTDETR',
            backbone=dict(type='VanillaNet', arch='6', widen_factor=1 / 16),
            neck=dict(type='RTDETRHybridEncoder', out_channels=64, feedforward_channels=96),
            bbox_head=dict(
                type='RTDETRHead',
                num_classes=20,
                embed_dims=64,
                feedforward_channels=96,
                num_decoder_layers=2,
                xavier_init=xavier_init,
            ),
        )
    )
    model.init_weights()
    table = rules(xavier_init, 64, 96)
    used = set()
    for name, param in model.named_parameters():
        pattern, rule = next(entry for entry in table if re.match(entry[0], name))
        used.add(pattern)
        value = param.detach().double()
        if 'denoising' in name:
            assert not value[-1].any()
            value = value[:-1]
        expected = rule(value)
        where = f'{name} by {pattern}'
        tolerance = 1e-6
        assert value.min() >= expected['low'] - tolerance, where
        assert value.max() <= expected['high'] + tolerance, where
        n, std = value.numel(), expected['std']
        if std is None:
            continue
        assert abs(value.mean() - expected['mean']) <= 5 * std / math.sqrt(n) + tolerance, where
        if n >= 16:
            assert abs(value.std() - std) <= 5 * std / math.sqrt(n) + tolerance, where
    assert used == {pattern for pattern, _ in table}


def test_sampling_offsets_start_on_a_ring():
    from mmdet_vanilla.models.layers import DeformableAttention

    attention = DeformableAttention(32, 8, num_levels=2, num_points=3)
    ring = attention.sampling_offsets.bias.detach().reshape(8, 2, 3, 2)
    for head in range(8):
        angle = 2 * math.pi * head / 8
        direction = torch.tensor([math.cos(angle), math.sin(angle)])
        direction = direction / direction.abs().max()
        for point in range(3):
            torch.testing.assert_close(
                ring[head, :, point], (direction * (point + 1)).expand(2, 2), atol=1e-5, rtol=0
            )


def test_convolutions_of_the_neck_are_pytorchs():
    torch.manual_seed(0)
    neck = MODELS.build(dict(type='RTDETRHybridEncoder', in_channels=[16, 32, 64], out_channels=64))
    neck.init_weights()
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 64, 1, bias=False)
    torch.testing.assert_close(neck.input_proj[0].conv.weight, conv.weight)
