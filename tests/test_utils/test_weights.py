import pytest
import torch
from torch import nn

from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.weights import (
    WeightsError,
    check_weights,
    load_weights,
    select_vanillanet_backbone,
    unwrap_state_dict,
)

STATE = {'a': torch.ones(1)}


@pytest.mark.parametrize(
    'checkpoint',
    [
        STATE,
        dict(model=STATE, optimizer={}),
        dict(model={'a': torch.zeros(1)}, model_ema=STATE, epoch=1),
        dict(ema=dict(module=STATE, updates=3), model={'a': torch.zeros(1)}),
        dict(state_dict=STATE, meta={}),
    ],
)
def test_unwrap(checkpoint):
    assert unwrap_state_dict(checkpoint)['a'] == 1


def test_unwrap_something_else():
    with pytest.raises(ValueError, match='no state dict found.*got the keys lr, epoch'):
        unwrap_state_dict(dict(lr=1.0, epoch=2))


def test_select_vanillanet_backbone():
    state = {'stem1.0.weight': torch.ones(1), 'cls1.2.weight': torch.ones(1)}
    kept, dropped = select_vanillanet_backbone(dict(model_ema=state))
    assert list(kept) == ['stem1.0.weight'] and dropped == ['cls1.2.weight']
    detector = {'backbone.stem1.0.weight': torch.ones(1), 'neck.a': torch.ones(1)}
    assert list(select_vanillanet_backbone(detector)[0]) == ['stem1.0.weight']


def test_check_weights():
    model = nn.ModuleDict(dict(a=nn.Linear(2, 2), b=nn.Linear(2, 3)))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    check_weights(model, state, 'x')
    other = dict(state, **{'b.weight': torch.rand(5, 2), 'b.bias': torch.rand(5)})
    check_weights(model, other, 'x', least_share=0.5)
    with pytest.raises(WeightsError, match=r'2 of another shape \(b.bias \(5,\) for \(3,\)'):
        check_weights(model, other, 'x')
    with pytest.raises(WeightsError, match=r'1 unexpected \(c\)'):
        check_weights(model, dict(state, c=torch.rand(1)), 'x')
    del state['a.weight'], state['a.bias'], state['b.bias']
    with pytest.raises(WeightsError, match='x does not belong to this ModuleDict: 3 missing'):
        check_weights(model, state, 'x', least_share=0.5)


def test_training_form_belongs_to_a_fused_model():
    source = VanillaNet('5', widen_factor=1 / 64)
    fused = VanillaNet('5', widen_factor=1 / 64, deploy=True)
    check_weights(fused, source.state_dict(), 'x')
    with pytest.raises(WeightsError):
        check_weights(source, fused.state_dict(), 'x')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_weights_to_detect_with_must_be_finite(value):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, dict(state_dict=state), 'x.pth')
    state['1.running_var'][1] = value
    with pytest.raises(WeightsError, match=r'x\.pth holds .* NaN .*1\.running_var \(1'):
        load_weights(model, dict(state_dict=state), 'x.pth')
    assert model[1].running_var.isfinite().all()
