import pytest
import torch
from helpers import stand_in_weights

from mmdet_vanilla.models import RTDETRHybridEncoder


def neck(channels=(4, 8, 12), **kwargs):
    kwargs = dict(out_channels=16, feedforward_channels=8, num_heads=2, expansion=0.5) | kwargs
    return stand_in_weights(RTDETRHybridEncoder(channels, **kwargs)).eval()


@pytest.mark.parametrize(
    'sizes',
    [
        [(8, 8), (4, 4), (2, 2)],
        [(9, 15), (4, 7), (2, 3)],  # not exact doubles
        [(5, 8), (5, 8), (3, 4)],  # two levels of one stride
        [(6, 4)],
        [(16, 12), (8, 6), (4, 3), (2, 2), (1, 1)],
    ],
)
def test_any_number_and_size_of_levels(sizes):
    channels = [4 * (i + 1) for i in range(len(sizes))]
    feats = [torch.rand(2, c, *size) for c, size in zip(channels, sizes)]
    outs = neck(channels)(feats)
    assert [tuple(out.shape) for out in outs] == [(2, 16, *size) for size in sizes]


def test_fusing_keeps_the_outputs():
    module = neck().double()
    feats = [torch.rand(1, c, s, s + 2).double() for c, s in zip((4, 8, 12), (9, 4, 2))]
    expected = module(feats)
    for _ in range(2):
        module.switch_to_deploy()
        torch.testing.assert_close(module(feats), expected, rtol=1e-10, atol=1e-10)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in module.modules())


def test_every_level_reaches_every_output():
    module = neck()
    feats = [torch.rand(1, c, s, s, requires_grad=True) for c, s in zip((4, 8, 12), (8, 4, 2))]
    for out in module(feats):
        grads = torch.autograd.grad(out.sum(), feats, retain_graph=True)
        assert all(grad.abs().max() > 0 for grad in grads)


def test_wrong_channels():
    with pytest.raises(ValueError, match=r'\(4, 8, 9\) channels.*in_channels=\(4, 8, 12\)'):
        neck()([torch.rand(1, c, 4, 4) for c in (4, 8, 9)])
    with pytest.raises(ValueError, match='use_encoder_idx'):
        neck(use_encoder_idx=(3,))
