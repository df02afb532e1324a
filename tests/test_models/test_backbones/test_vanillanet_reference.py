"""VanillaNet against tests/reference, in float64: every model, option and form."""

import pytest
import torch
from helpers import stand_in_weights
from reference.vanillanet import vanillanet

from mmdet_vanilla.models import VanillaNet

ZOO = list(VanillaNet.arch_zoo)


def build(arch, **options):
    depth = len(VanillaNet.arch_zoo[arch]['strides'])
    options = dict(widen_factor=1 / 128, out_stem=True, out_indices=range(depth), **options)
    return stand_in_weights(VanillaNet(arch, **options)).double()


def expected(model, arch, image, weights=None, act_learn=1.0):
    zoo = VanillaNet.arch_zoo[arch]
    return vanillanet(
        image,
        weights or dict(model.state_dict()),
        zoo['strides'],
        model.act_num,
        zoo.get('ada_pool', False),
        act_learn,
        training=model.training,
    )


def check(outs, theirs):
    assert len(outs) == len(theirs)
    for ours, reference in zip(outs, theirs):
        assert ours.std() > 1e-3
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('arch', ZOO)
def test_every_arch_in_every_form_equals_the_reference_on_an_odd_rectangle(arch):
    model = build(arch).eval()
    image = torch.rand(1, 3, 67, 101, dtype=torch.float64)
    with torch.no_grad():
        model.set_act_learn(0.3)
        check(model(image), expected(model, arch, image, act_learn=0.3))
        model.set_act_learn(1.0)
        theirs = expected(model, arch, image)
        check(model(image), theirs)
        model.merge_pairs()
        check(model(image), theirs)
        model.switch_to_deploy()
        check(model(image), theirs)


@pytest.mark.parametrize('arch', ['6', '13_x1_5_ada_pool'])
@pytest.mark.parametrize('act_num', [0, 1, 2, 4])
def test_every_act_num_equals_the_reference(arch, act_num):
    model = build(arch, act_num=act_num).eval()
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        model.set_act_learn(0.0)
        check(model(image), expected(model, arch, image, act_learn=0.0))
        model.set_act_learn(1.0)
        model.switch_to_deploy()
        state = build(arch, act_num=act_num).eval()
        check(model(image), expected(state, arch, image))


CASES = [*((arch, 0.3) for arch in ZOO), ('6', 1.0), ('13_x1_5_ada_pool', 1.0)]


@pytest.mark.parametrize('arch, act_learn', CASES)
def test_training_and_gradients_of_every_arch_equal_the_reference(arch, act_learn):
    model = build(arch, act_learn=act_learn).train()
    image = torch.rand(2, 3, 67, 70, dtype=torch.float64)
    weights = {
        name: tensor.clone().requires_grad_(tensor.is_floating_point())
        for name, tensor in model.state_dict().items()
    }
    ours = model(image)
    theirs = expected(model, arch, image, weights, act_learn)
    check(ours, theirs)
    factors = [torch.randn_like(out) for out in ours]
    for outs in (ours, theirs):
        sum((out * factor).sum() for out, factor in zip(outs, factors)).backward()
    for name, param in model.named_parameters():
        # A bias before a normalisation has no gradient but rounding.
        scale = weights[name].grad.abs().max() + 1
        torch.testing.assert_close(
            param.grad / scale, weights[name].grad / scale, rtol=1e-7, atol=1e-9, msg=name
        )
