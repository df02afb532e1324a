import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import stand_in_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.models.backbones.vanillanet import AdaptiveHalfPool2d

ZOO = list(VanillaNet.arch_zoo)

# Parameters (M) of the fused and the training form, GMACs at 640 of both.
COSTS = {
    '5': (11.4, 17.2, 42.1, 68.9),
    '6': (28.4, 51.0, 48.9, 82.4),
    '7': (28.7, 51.6, 56.2, 96.5),
    '8': (33.0, 60.1, 63.1, 110.1),
    '9': (37.3, 68.6, 70.0, 123.7),
    '10': (41.6, 77.1, 76.9, 137.3),
    '11': (45.9, 85.6, 83.7, 150.8),
    '12': (50.2, 94.1, 90.6, 164.4),
    '13': (54.5, 102.6, 97.5, 178.0),
    '13_x1_5': (121.7, 229.8, 216.7, 397.9),
}


def tiny(arch='6', **kwargs):
    return stand_in_weights(VanillaNet(arch, widen_factor=1 / 64, **kwargs)).eval()


@pytest.mark.parametrize(
    'arch, size',
    [('5', 64), ('6', 64), pytest.param('13_x1_5_ada_pool', 224, marks=pytest.mark.slow)],
)
def test_equals_the_authors_code(golden, arch, size):
    expected = golden.expected(f'vanillanet_{arch}')
    depth = len(VanillaNet.arch_zoo[arch]['strides'])
    model = VanillaNet(arch, out_indices=range(depth)).double().eval()
    state = golden.state_dict(f'vanillanet_{arch}')
    result = model.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith('cls')}, strict=False
    )
    assert not result.missing_keys or all('num_batches' in key for key in result.missing_keys)
    assert not result.unexpected_keys
    image = golden.image((1, 3, size, size))

    def check(form):
        with torch.no_grad():
            outs = model(image)
        for i, out in enumerate(outs):
            if f'{form}/stage{i}/shape' in expected:
                assert tuple(out.shape) == tuple(expected[f'{form}/stage{i}/shape'])
            flat = out.flatten().numpy()
            index = np.linspace(0, flat.size - 1, 512).astype(int)
            np.testing.assert_allclose(
                flat[index], expected[f'{form}/stage{i}/values'], rtol=1e-8, atol=1e-9
            )

    for act_learn in (1.0, 0.3, 0.0):
        model.set_act_learn(act_learn)
        check(f'act_learn={act_learn}')
    model.set_act_learn(1.0)
    model.switch_to_deploy()
    check('deploy')


@pytest.mark.parametrize('arch', COSTS)
@pytest.mark.parametrize('deploy', [True, False])
def test_cost(arch, deploy):
    with torch.device('meta'):
        model = VanillaNet(arch, deploy=deploy).eval()
        image = torch.empty(1, 3, 640, 640)
    params = sum(p.numel() for p in model.parameters()) / 1e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    macs = counter.get_total_flops() / 2e9
    expected = COSTS[arch][0 if deploy else 1], COSTS[arch][2 if deploy else 3]
    assert (round(params, 1), round(macs, 1)) == expected


def test_official_names(golden):
    for arch in ZOO:
        with torch.device('meta'):
            model = VanillaNet(arch)
        own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        theirs = golden.keys(f'vanillanet_{arch}')
        assert own == {k: v for k, v in theirs.items() if not k.startswith('cls')}, arch


@pytest.mark.parametrize('arch', ZOO)
def test_outputs_have_the_stated_channels_and_strides(arch):
    model = tiny(arch)
    outs = model(torch.rand(1, 3, 96, 192))
    assert tuple(out.shape[1] for out in outs) == model.out_channels
    assert tuple(96 // out.shape[2] for out in outs) == model.out_strides
    assert tuple(192 // out.shape[3] for out in outs) == model.out_strides
    assert model.out_strides == ((6, 12, 24) if 'ada_pool' in arch else (8, 16, 32))


def test_default_out_indices():
    expected = {'5': (0, 1, 2), '6': (0, 1, 3), '7': (1, 2, 4), '13': (1, 8, 10)}
    for arch, indices in expected.items():
        assert tiny(arch).out_indices == indices


def test_arch_names_may_be_numbers_or_carry_the_family_name():
    assert tiny(6).out_channels == tiny('vanillanet_6').out_channels == tiny('6').out_channels


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_half_pooling_is_adaptive_pooling(height, width):
    x = torch.randn(1, 2, height, width)
    expected = F.adaptive_max_pool2d(x, ((height + 1) // 2, (width + 1) // 2))
    assert torch.equal(AdaptiveHalfPool2d()(x), expected)


@given(height=st.integers(32, 100), width=st.integers(32, 100), ada_pool=st.booleans())
def test_any_size(height, width, ada_pool):
    arch = dict(dims=[4, 4, 8, 8], strides=[2, 2, 2], ada_pool=ada_pool)
    model = VanillaNet(arch).eval()
    for out, stride in zip(model(torch.rand(1, 3, height, width)), model.out_strides):
        if not ada_pool:
            assert out.shape[2:] == (height // stride, width // stride)
        assert min(out.shape[2:]) >= 1


def test_stem_output_and_negative_indices():
    model = tiny('6', out_stem=True, out_indices=(0, 1, -1))
    outs = model(torch.rand(1, 3, 64, 64))
    assert model.out_strides == (4, 8, 16, 32)
    assert [out.shape[-1] for out in outs] == [16, 8, 4, 2]
    assert model.out_channels == (8, 16, 32, 64)
    assert model.out_indices == (0, 1, 3)


@pytest.mark.parametrize('arch', ['5', '6', '13', '13_x1_5_ada_pool'])
def test_fusing_keeps_the_outputs(arch):
    model = tiny(arch, out_stem=True).double()
    image = torch.rand(2, 3, 70, 100, dtype=torch.float64)
    before = model(image)
    assert all(out.std() > 1e-3 for out in before)
    model.switch_to_deploy()
    for a, b in zip(before, model(image)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    state = copy.deepcopy(model.state_dict())
    model.switch_to_deploy()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert all('bn' not in name and 'conv1' not in name for name in state)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_fused_weights_are_contiguous_in_the_format_of_the_model(memory_format):
    model = tiny().to(memory_format=memory_format)
    model.switch_to_deploy()
    fresh = VanillaNet('6', widen_factor=1 / 64, deploy=True).to(memory_format=memory_format)
    own = dict(model.named_parameters())
    for name, param in fresh.named_parameters():
        assert own[name].stride() == param.stride(), name
        if param.dim() == 4:
            assert own[name].is_contiguous(memory_format=memory_format)


def test_deploy_form_loads_both_forms():
    model = tiny()
    training_state = copy.deepcopy(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    expected = model(image)
    model.switch_to_deploy()
    for state in (training_state, model.state_dict()):
        fused = VanillaNet('6', widen_factor=1 / 64, deploy=True).eval()
        fused.load_state_dict(state)
        for a, b in zip(expected, fused(image)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_act_learn():
    model = tiny()
    image = torch.rand(1, 3, 64, 64)
    linear = model(image)
    model.set_act_learn(0.0)
    assert not torch.allclose(linear[-1], model(image)[-1])
    assert all(block.act_learn == 0.0 for block in model.stages)
    with pytest.raises(RuntimeError, match='cannot fuse at act_learn=0.0'):
        model.switch_to_deploy()
    model.set_act_learn(1)
    torch.testing.assert_close(linear, model(image))
    model.switch_to_deploy()
    with pytest.raises(RuntimeError, match='fused model'):
        model.set_act_learn(0.5)


def test_leaves_nothing_of_the_training_form_when_fusing_is_refused():
    model = tiny(act_learn=0.5)
    names = set(model.state_dict())
    with pytest.raises(RuntimeError):
        model.switch_to_deploy()
    assert set(model.state_dict()) == names


def test_frozen_stages_and_norm_eval():
    model = tiny(frozen_stages=1, norm_eval=True).train()
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen and all(name.startswith(('stem', 'stages.0.')) for name in frozen)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(name.startswith(('stages.1.', 'stages.2.', 'stages.3.')) for name in trainable)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    assert all(m.training for m in tiny().train().modules())


def test_the_stem_can_be_frozen_alone():
    model = tiny(frozen_stages=0).train()
    frozen = {name.split('.')[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'stem1', 'stem2'}
    assert not model.stem1.training and not model.stem2.training and model.stages.training


def test_checkpointing_gives_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, norm_eval=True).train()
        sum(out.square().mean() for out in model(torch.full((1, 3, 64, 64), 0.5))).backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads)


def test_initialisation():
    model = VanillaNet('6', widen_factor=1 / 8)
    model.init_weights()
    for name, param in model.named_parameters():
        if param.dim() == 4:
            assert abs(param.std().item() - 0.02) < 0.002, name
        elif name.endswith('bias'):
            assert not param.any(), name


def test_sync_bn_and_eps():
    assert isinstance(tiny().stem1[1], torch.nn.BatchNorm2d) and tiny().stem1[1].eps == 1e-6
    model = VanillaNet('5', widen_factor=1 / 64, norm_cfg=dict(type='SyncBN', eps=1e-6))
    assert isinstance(model.stages[0].act.bn, torch.nn.SyncBatchNorm)


@pytest.mark.parametrize('key', ['model_ema', 'model', None])
def test_pretrained_official_checkpoint(tmp_path, key):
    source = tiny()
    state = dict(source.state_dict())
    state['cls1.2.weight'] = torch.zeros(5, 64, 1, 1)
    state['cls2.0.bias'] = torch.zeros(5)
    torch.save({key: state, 'epoch': 3} if key else state, tmp_path / 'official.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'official.pth'))
    for deploy, init_cfg in ((False, cfg), (True, cfg), (False, [cfg])):
        model = MODELS.build(
            dict(type='VanillaNet', widen_factor=1 / 64, init_cfg=init_cfg, deploy=deploy)
        ).eval()
        model.init_weights()
        image = torch.rand(1, 3, 64, 64)
        torch.testing.assert_close(source(image), model(image), rtol=1e-4, atol=1e-5)


def test_pretrained_checkpoint_of_another_model(tmp_path):
    torch.save(tiny('5').state_dict(), tmp_path / 'other.pth')
    model = VanillaNet(
        '6',
        widen_factor=1 / 64,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')),
    )
    with pytest.raises(
        ValueError,
        match='holds the weights of another network, and the backbone',
    ):
        model.init_weights()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='14'), "unknown arch '14': expected one of 5, 6"),
        (dict(arch=dict(dims=[8, 8])), 'missing.*strides'),
        (dict(arch=dict(dims=[8, 8], strides=[2], depth=3)), 'unknown.*depth'),
        (dict(arch=dict(dims=[8, 8, 8], strides=[2])), '3 dims and 1 strides do not fit'),
        (dict(arch=dict(dims=[8, 8], strides=[3])), 'stride 1 or 2'),
        (dict(arch='6', widen_factor=0.0001), 'every width must be at least 1'),
        (dict(arch='6', out_indices=(0, 4)), r'\[4\] out of range.*-4..3'),
        (dict(arch='6', out_indices=(-5,)), 'out of range'),
        (dict(arch='6', out_indices=(1, 0)), 'ascending'),
        (dict(arch='6', out_indices=(3, -1)), 'ascending'),
        (dict(arch='6', out_indices=()), 'would return nothing'),
        (dict(arch='6', act_num=-1), 'act_num=-1'),
        (dict(arch='6', act_learn=1.5), 'act_learn=1.5 is outside 0..1'),
        (dict(arch='6', act_learn=-0.1), 'outside 0..1'),
        (dict(arch='6', frozen_stages=5), 'frozen_stages=5 is outside'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VanillaNet(**{'widen_factor': 1 / 64, **kwargs})


def test_deploy_needs_act_learn_one():
    with pytest.raises(RuntimeError, match='cannot fuse at act_learn=0.5'):
        VanillaNet('6', widen_factor=1 / 64, deploy=True, act_learn=0.5)


def test_only_what_is_needed_runs():
    model = tiny(out_indices=(0,)).train()
    outs = model(torch.rand(2, 3, 16, 16))
    assert [tuple(out.shape) for out in outs] == [(2, 16, 2, 2)]
    outs[0].mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not any(p.requires_grad for p in model.stages[1:].parameters())
    model = tiny(out_indices=(), out_stem=True)
    assert model.out_strides == (4,) and model(torch.rand(1, 3, 8, 8))[0].shape == (1, 8, 2, 2)


def test_image_smaller_than_a_stride():
    with pytest.raises(ValueError, match='31x64 pixels .* smaller than the stride 32'):
        tiny()(torch.rand(1, 3, 31, 64))
