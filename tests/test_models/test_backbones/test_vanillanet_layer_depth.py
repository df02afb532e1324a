import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet_vanilla.models import VanillaNet

NARROW = 1 / 256


@pytest.mark.parametrize('form', [dict(), dict(deploy=True)])
def test_scales_of_the_authors_recipe(form):
    model = VanillaNet('13', widen_factor=NARROW, **form)
    # Scales of the layers as logged by the authors' detection runs at rate 0.6.
    expected = {'stem': 0.6**7, **{str(i): 0.6 ** (6 - i // 2) for i in range(11)}}
    assert round(expected['stem'], 3) == 0.028 and expected['10'] == 0.6
    for name, _ in model.named_parameters():
        depth, num_layers = model.get_layer_depth(f'backbone.{name}')
        part = name.split('.')[1] if name.startswith('stages') else 'stem'
        assert 0.6 ** (num_layers - depth - 1) == pytest.approx(expected[part])


@given(st.sampled_from(sorted(VanillaNet.arch_zoo)), st.booleans())
def test_depth_never_falls_from_input_to_output(arch, deploy):
    model = VanillaNet(arch, widen_factor=NARROW, deploy=deploy)
    stem = [n for n, _ in model.named_parameters() if not n.startswith('stages')]
    blocks = [f'stages.{i}.act.weight' for i in range(len(model.stages))]
    depths = [model.get_layer_depth(name, '')[0] for name in stem + blocks]
    assert depths == sorted(depths)
    assert depths[0] == 0 and depths[-1] == model.get_layer_depth('stem', '')[1] - 2


def test_a_name_outside_the_backbone():
    with pytest.raises(ValueError, match="'neck.weight' is not in the backbone"):
        VanillaNet('5', widen_factor=NARROW).get_layer_depth('neck.weight')
