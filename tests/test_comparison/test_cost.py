"""Counts against the published ones, and against a count by hand."""

import copy

import pytest
import torch
from comparison_helpers import RETINANET, TINY_RTDETR
from helpers import CONFIGS, data_sample, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmdet_vanilla.comparison.cost import count_macs, count_parameters, fused_form
from mmdet_vanilla.utils.pretrained import remove_pretrained


@pytest.mark.parametrize('deploy, giga', [(True, 48.9), (False, 82.4)])
def test_macs_of_vanillanet6_at_640(deploy, giga):
    model = MODELS.build(dict(type='VanillaNet', arch='6', deploy=deploy)).eval()
    macs = count_macs(model, torch.zeros(1, 3, 640, 640))
    assert macs.total / 1e9 == pytest.approx(giga, abs=0.05)
    assert not macs.uncounted


@pytest.mark.parametrize('name, mega', [('r18vd', 20.2), ('r50vd', 42.9)])
def test_parameters_of_rtdetr(name, mega):
    cfg = Config.fromfile(CONFIGS / f'rtdetr_{name}_coco.py')
    remove_pretrained(cfg.model)
    assert count_parameters(MODELS.build(cfg.model)) / 1e6 == pytest.approx(mega, abs=0.05)


def test_macs_of_retinanet_by_hand():
    """Every convolution is k * k * in * out * pixels."""
    cfg = copy.deepcopy(RETINANET)
    remove_pretrained(cfg)
    model = MODELS.build(cfg).eval()
    expected = 0

    def count(module, args, output):
        nonlocal expected
        if isinstance(module, nn.Conv2d):
            pixels = output.shape[-2] * output.shape[-1]
            k = module.kernel_size[0] * module.kernel_size[1]
            expected += k * module.in_channels * module.out_channels * pixels

    for module in model.modules():
        module.register_forward_hook(count)
    image = torch.zeros(1, 3, 96, 128)
    model(image)
    by_hand = expected
    assert count_macs(model, image, [data_sample()]).total == by_hand


@pytest.mark.parametrize('model_cfg', [TINY_RTDETR, RETINANET], ids=['rtdetr', 'retinanet'])
def test_fused_form_computes_the_same_with_fewer_parameters(model_cfg):
    cfg = copy.deepcopy(model_cfg)
    remove_pretrained(cfg)
    model = stand_in_weights(MODELS.build(cfg)).eval()
    image = torch.rand(1, 3, 96, 128)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = fused_form(model)
    assert count_parameters(fused) < count_parameters(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        a, b = model.extract_feat(image), fused.extract_feat(image)
    for x, y in zip(a, b):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-4 * float(x.abs().max()))


class _SharedConvolution(nn.Module):
    """Folds wrongly: one convolution, two normalisations in turn (as RTMDet's head)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.second = nn.Sequential(self.first[0], nn.BatchNorm2d(4))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.first(inputs), self.second(inputs)


def test_a_form_that_computes_something_else_is_none():
    model = _SharedConvolution().eval()
    assert fused_form(model) is None


def test_remove_pretrained_says_what_it_changed():
    cfg = Config(dict(model=copy.deepcopy(RETINANET))).model
    changes = remove_pretrained(cfg, unfreeze=True)
    assert cfg.backbone.init_cfg is None
    assert (cfg.backbone.frozen_stages, cfg.backbone.norm_eval) == (-1, False)
    assert len(changes) == 3 and all(change.startswith('model.backbone') for change in changes)
    assert remove_pretrained(cfg, unfreeze=True) == []
