import copy
import math

import pytest
import torch
from helpers import CONFIGS, TINY_RTDETR
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdet_vanilla.utils.errors import UserError

LR, DECAY = 0.5, 0.25
NO_DECAY = dict(norm_decay_mult=0, bias_decay_mult=0)


def build(model, optimizer=None, **paramwise):
    cfg = dict(
        constructor='ParamGroupOptimWrapperConstructor',
        optimizer=optimizer or dict(type='AdamW', lr=LR, weight_decay=DECAY),
        paramwise_cfg=paramwise,
    )
    return build_optim_wrapper(model, cfg)


def settings_of(model, wrapper):
    """(lr, weight_decay) by the name of the parameter."""
    names = {param: name for name, param in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for param in group['params']:
            assert names[param] not in found
            found[names[param]] = (group['lr'], group['weight_decay'])
    return found


@pytest.fixture(scope='module')
def rtdetr():
    return MODELS.build(copy.deepcopy(TINY_RTDETR))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8))
        self.attn = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.ones(8))


def test_a_slower_backbone_keeps_the_rules_for_norms_and_biases():
    model = Attention()
    found = settings_of(
        model, build(model, custom_keys=dict(backbone=dict(lr_mult=0.1)), **NO_DECAY)
    )
    assert found['backbone.0.weight'] == (LR * 0.1, DECAY)
    for name in ('0.bias', '1.weight', '1.bias', '2.weight', '2.bias'):
        assert found[f'backbone.{name}'] == (LR * 0.1, 0)
    for name in ('attn.in_proj_bias', 'attn.out_proj.bias', 'norm.weight', 'norm.bias'):
        assert found[name] == (LR, 0)
    assert found['attn.in_proj_weight'] == found['scale'] == (LR, DECAY)


def test_the_longest_key_counts_and_its_own_decay_comes_first():
    model = Attention()
    found = settings_of(
        model,
        build(
            model,
            custom_keys={
                'backbone': dict(lr_mult=0.1),
                'backbone.1': dict(decay_mult=0.5),
                'norm': dict(decay_mult=1),
            },
            **NO_DECAY,
        ),
    )
    assert found['backbone.0.weight'] == (LR * 0.1, DECAY)
    assert found['backbone.1.bias'] == (LR, DECAY * 0.5)
    assert found['norm.weight'] == (LR, DECAY)


def test_few_groups_in_a_fixed_order():
    model = Attention()
    custom_keys = dict(backbone=dict(lr_mult=0.1))
    groups = build(model, custom_keys=custom_keys, **NO_DECAY).optimizer.param_groups
    assert [(g['lr'], g['weight_decay'], len(g['params'])) for g in groups] == [
        (LR, DECAY, 3),
        (LR * 0.1, DECAY, 1),
        (LR * 0.1, 0, 5),
        (LR, 0, 4),
    ]


def test_shared_and_frozen_parameters():
    model = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 3), c=nn.Linear(3, 3)))
    model['b'].weight = model['a'].weight
    model['c'].requires_grad_(False)
    wrapper = build(model, custom_keys=dict(c=dict(lr_mult=0.5)), bypass_duplicate=True)
    assert set(settings_of(model, wrapper)) == {'a.weight', 'a.bias', 'b.bias'}


def test_a_key_of_frozen_parameters_is_told(monkeypatch):
    model = nn.ModuleDict(dict(a=nn.Linear(3, 3), c=nn.Linear(3, 3)))
    model['c'].requires_grad_(False)
    messages = []
    monkeypatch.setattr(
        'mmdet_vanilla.engine.optimizers.param_group_constructor.print_log',
        lambda message, **_: messages.append(message),
    )
    build(model, custom_keys=dict(c=dict(lr_mult=0.5)))
    assert any("'c' matches only parameters that are frozen" in message for message in messages)


def test_a_wrapped_model_and_no_options():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    wrapper = build(Wrapper(Attention()), norm_decay_mult=0)
    assert sum(len(group['params']) for group in wrapper.optimizer.param_groups) == 13
    assert len(build(Attention()).optimizer.param_groups) == 1


def test_an_optimizer_without_decay():
    model = Attention()
    wrapper = build(model, dict(type='SGD', lr=LR), custom_keys=dict(backbone=dict(lr_mult=0.1)))
    assert {group['lr'] for group in wrapper.optimizer.param_groups} == {LR, LR * 0.1}
    assert {group['weight_decay'] for group in wrapper.optimizer.param_groups} == {0}


@pytest.mark.parametrize(
    'paramwise, optimizer, message',
    [
        (
            dict(custom_keys=dict(backbon2=dict(lr_mult=0.1), norm=dict(lr_mult=1))),
            None,
            "'backbon2' is part of no parameter's name. .*backbone, attn, norm;",
        ),
        (dict(dwconv_decay_mult=0), None, "unknown options 'dwconv_decay_mult'.*knows"),
        (dict(custom_keys=dict(norm=dict(lr=1))), None, r"custom_keys\['norm'\] has unknown.*'lr'"),
        (dict(custom_keys=dict(norm=0.1)), None, 'expected a dict'),
        (dict(norm_decay_mult=-1), None, 'norm_decay_mult=-1: expected a factor'),
        (dict(custom_keys=dict(norm=dict(lr_mult='x'))), None, "lr_mult='x': expected a factor"),
        (dict(layer_decay_rate=1.5), None, 'layer_decay_rate=1.5: expected'),
        (dict(layer_decay_rate=0.6), None, 'get_layer_depth.*the model has Sequential'),
        (dict(bypass_duplicate=False), None, 'always taken once'),
        (dict(bias_decay_mult=0), dict(type='SGD', lr=1), 'need the weight decay'),
        (dict(bias_decay_mult=0), dict(type='AdamW', weight_decay=1), 'set optimizer.lr'),
    ],
)
def test_what_does_not_fit_is_an_error(paramwise, optimizer, message):
    with pytest.raises(UserError, match=message):
        build(Attention(), optimizer, **paramwise)


def test_layer_decay_without_backbone():
    with pytest.raises(UserError, match='the model has no backbone'):
        build(nn.Linear(2, 2), layer_decay_rate=0.6)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0, 2), st.floats(0, 2), st.floats(0.1, 1), st.sampled_from(['backbone', 'bbox_head'])
)
def test_every_trainable_parameter_has_its_own_settings(rtdetr, lr_mult, decay_mult, rate, key):
    wrapper = build(
        rtdetr,
        custom_keys={key: dict(lr_mult=lr_mult)},
        norm_decay_mult=decay_mult,
        layer_decay_rate=rate,
    )
    found = settings_of(rtdetr, wrapper)
    trainable = {name for name, param in rtdetr.named_parameters() if param.requires_grad}
    assert set(found) == trainable
    assert len(wrapper.optimizer.param_groups) == len(set(found.values()))
    for name, (lr, decay) in found.items():
        expected = LR * (lr_mult if key in name else 1)
        if name.startswith('backbone.'):
            depth, num_layers = rtdetr.backbone.get_layer_depth(name)
            expected *= rate ** (num_layers - depth - 1)
        assert math.isclose(lr, expected) and decay in (DECAY, DECAY * decay_mult)


def test_the_order_of_groups_survives_a_resume(rtdetr):
    options = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)), **NO_DECAY)
    wrapper = build(rtdetr, **options)
    for param in rtdetr.parameters():
        param.grad = torch.ones_like(param)
    wrapper.optimizer.step()
    rtdetr.zero_grad(set_to_none=True)
    again = build(rtdetr, **options)
    again.load_state_dict(wrapper.state_dict())
    for old, new in zip(wrapper.optimizer.param_groups, again.optimizer.param_groups):
        assert old['params'] == new['params']
        for param in old['params']:
            before, after = (w.optimizer.state[param]['exp_avg'] for w in (wrapper, again))
            assert torch.equal(before, after)


def test_groups_are_logged_in_a_few_lines(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmdet_vanilla.engine.optimizers.param_group_constructor.print_log',
        lambda text, logger: lines.extend(text.splitlines()),
    )
    build(Attention(), custom_keys=dict(backbone=dict(lr_mult=0.1)), **NO_DECAY)
    assert len(lines) == 2 + 4
    assert lines[3].split() == ['0.05', '0.25', '1', 'backbone.0.weight']


SHARED_BY_BOTH = dict(
    type='OptimWrapper',
    constructor='ParamGroupOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.6, norm_decay_mult=0, bias_decay_mult=0),
)


@pytest.mark.parametrize(
    'name, lr, out_indices, in_channels, milestones',
    [
        ('retinanet', 8e-5, (1, 8, 10), [1024, 2048, 4096], [10, 11]),
        ('mask-rcnn', 1.3e-4, (0, 1, 8, 10), [512, 1024, 2048, 4096], [10, 12]),
    ],
)
def test_detectors_of_the_vanillanet_authors(name, lr, out_indices, in_channels, milestones):
    cfg = Config.fromfile(CONFIGS / f'{name}_vanillanet13_coco.py')
    assert cfg.optim_wrapper == dict(
        SHARED_BY_BOTH,
        optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    )
    assert cfg.train_cfg.max_epochs == 12
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.by_epoch, warm_up.end) == (0.001, False, 500)
    assert (steps.milestones, steps.gamma) == (milestones, 0.1)
    assert cfg.train_dataloader.batch_size == 4 and cfg.auto_scale_lr.base_batch_size == 32
    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert list(pipeline) == [
        *('LoadImageFromFile', 'LoadAnnotations', 'RandomChoiceResize', 'RandomFlip'),
        'PackDetInputs',
    ]
    assert pipeline['RandomChoiceResize'].scales == [(s, 1333) for s in range(480, 1025, 32)]
    assert pipeline['RandomChoiceResize'].keep_ratio
    has_masks = name == 'mask-rcnn'
    assert pipeline['LoadAnnotations'].get('with_mask', False) == has_masks
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if has_masks else 'bbox')
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.std == [58.395, 57.12, 57.375]
    assert cfg.model.neck.in_channels == in_channels

    widen = 1 / 128
    cfg.model.backbone.widen_factor = widen
    assert cfg.model.backbone.norm_cfg == dict(type='SyncBN', eps=1e-6)
    cfg.model.neck.in_channels = [int(c * widen) for c in in_channels]
    model = MODELS.build(cfg.model)
    assert model.backbone.out_indices == out_indices and model.backbone.act_num == 4
    found = settings_of(model, build_optim_wrapper(model, cfg.optim_wrapper))
    assert set(found) == {n for n, p in model.named_parameters() if p.requires_grad}
    parameters = dict(model.named_parameters())
    for key, (group_lr, decay) in found.items():
        assert decay == (0 if parameters[key].ndim == 1 else 0.05), key
        layer = 7
        if key.startswith('backbone.stem'):
            layer = 0
        elif key.startswith('backbone.'):
            layer = int(key.split('.')[2]) // 2 + 1
        assert group_lr == pytest.approx(lr * 0.6 ** (7 - layer)), key
