import copy

import pytest
import torch
from helpers import stand_in_weights
from torch import nn

from mmdet_vanilla.models import ConvNormAct, CSPRepLayer, RepVGGBlock, fold_bn, switch_to_deploy

BLOCKS = {
    'conv': lambda **kw: ConvNormAct(6, 8, 3, 2, act_cfg=dict(type='SiLU'), **kw),
    'repvgg': lambda **kw: RepVGGBlock(6, act_cfg=dict(type='SiLU'), **kw),
    'csp': lambda **kw: CSPRepLayer(6, 8, 2, 0.5, act_cfg=dict(type='SiLU'), **kw),
    'csp_wide': lambda **kw: CSPRepLayer(6, 8, 2, 1.0, act_cfg=dict(type='SiLU'), **kw),
}


@pytest.mark.parametrize('build', BLOCKS.values(), ids=BLOCKS)
def test_fusing_is_exact_idempotent_and_loads(build):
    block = stand_in_weights(build()).double().eval()
    image = torch.randn(2, 6, 9, 12, dtype=torch.float64)
    expected, state = block(image), copy.deepcopy(block.state_dict())
    for _ in range(2):
        switch_to_deploy(block)
        torch.testing.assert_close(block(image), expected, rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in block.modules())
    for saved in (state, block.state_dict()):
        fused = build(deploy=True).double().eval()
        fused.load_state_dict(saved)
        torch.testing.assert_close(fused(image), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('bias', [True, False])
def test_fold_bn(bias):
    conv, bn = nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4, eps=1e-3)
    module = stand_in_weights(nn.ModuleDict(dict(conv=conv, bn=bn))).double().eval()
    weight, folded_bias = fold_bn(module.state_dict(), 'conv.', 'bn.', 1e-3)
    image = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(nn.functional.conv2d(image, weight, folded_bias), bn(conv(image)))


@pytest.mark.parametrize('requires_grad', [True, False])
def test_requires_grad_survives(requires_grad):
    block = BLOCKS['repvgg']().requires_grad_(requires_grad)
    block.switch_to_deploy()
    assert all(p.requires_grad == requires_grad and p.is_leaf for p in block.parameters())


def test_other_normalisation_cannot_be_folded():
    block = ConvNormAct(6, 8, 3, norm_cfg=dict(type='GN', num_groups=2))
    with pytest.raises(ValueError, match='norm keeps no running statistics'):
        block.switch_to_deploy()


def test_half_of_a_training_form_is_reported_by_torch():
    fused, state = BLOCKS['repvgg'](deploy=True), BLOCKS['repvgg']().state_dict()
    del state['conv2.norm.running_var']
    result = fused.load_state_dict(state, strict=False)
    assert result.missing_keys == ['conv.weight', 'conv.bias']
    assert 'conv1.conv.weight' in result.unexpected_keys


def test_foreign_modules_with_the_method_are_fused():
    class Foreign(nn.Module):
        calls = 0

        def switch_to_deploy(self):
            self.calls += 1

    foreign = Foreign()
    switch_to_deploy(nn.Sequential(nn.Sequential(foreign), nn.ReLU()))
    assert foreign.calls == 1
