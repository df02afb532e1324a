import copy

import pytest
import torch
from helpers import TINY_RTDETR, data_sample, stand_in_weights
from mmdet.registry import MODELS
from torch import nn

from mmdet_vanilla.models.layers.deferred import Deferred

BACKBONES = {
    'r18': dict(type='ResNetVd', depth=18, base_channels=8, stem_channels=8),
    'r50': dict(type='ResNetVd', depth=50, base_channels=8, stem_channels=8),
    'vanillanet': TINY_RTDETR['backbone'],
}


def at_once(self, function):
    return function(*self.inputs)


def step(model, images, samples):
    torch.manual_seed(0)
    loss, _ = model.parse_losses(model.loss(images, samples))
    loss.backward()
    return loss


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('norm_eval', [False, True])
def test_training_is_the_same_as_when_all_is_kept(name, norm_eval, monkeypatch):
    cfg = copy.deepcopy(TINY_RTDETR)
    cfg['backbone'] = dict(BACKBONES[name], norm_eval=norm_eval)
    if name != 'vanillanet':
        cfg['backbone']['out_indices'] = (1, 2, 3)
    plain = stand_in_weights(MODELS.build(cfg)).double().train()
    deferred = copy.deepcopy(plain)
    images = torch.rand(2, 3, 64, 96).double()
    samples = [data_sample([[4.0, 4, 30, 30]], [1], (64, 96)) for _ in range(2)]
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
    loss = step(deferred, images, samples)
    monkeypatch.setattr(Deferred, '_call', at_once)
    torch.testing.assert_close(loss, step(plain, images, samples))
    for (key, a), b in zip(plain.named_parameters(), deferred.parameters()):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda text, key=key: f'{key}: {text}')
    for (key, a), b in zip(plain.named_buffers(), deferred.buffers()):
        torch.testing.assert_close(b, a, msg=lambda text, key=key: f'{key}: {text}')


def test_the_map_between_two_convolutions_is_not_kept():
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        (out,) = Deferred(lambda x: norm(x).relu(), [x], [norm]).then(conv)
    assert kept.count(x.shape) <= 1
    calls = []
    conv.register_forward_hook(lambda *_: calls.append(1))
    out.sum().backward()
    assert not calls and norm.num_batches_tracked == 1
