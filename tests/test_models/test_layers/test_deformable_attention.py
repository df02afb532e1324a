import pytest
import torch
from helpers import stand_in_weights
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from mmdet_vanilla.models import DeformableAttention, deformable_attention

SHAPES = [(6, 9), (3, 5), (2, 2)]
LENGTH = sum(h * w for h, w in SHAPES)


def inputs(points, heads=2, dim=4, queries=7):
    total = sum(points)
    value = torch.randn(2, LENGTH, heads, dim, dtype=torch.float64)
    locations = torch.rand(2, queries, heads, total, 2, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, queries, heads, total, dtype=torch.float64)
    return value, locations, weights


def test_equals_mmcv():
    value, locations, weights = inputs([4, 4, 4])
    ours = deformable_attention(value, SHAPES, locations, weights, [4, 4, 4])
    theirs = multi_scale_deformable_attn_pytorch(
        value, torch.tensor(SHAPES), locations.unflatten(3, (3, 4)), weights.unflatten(3, (3, 4))
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('points', [[1, 2, 3], [4, 1, 1]])
def test_points_per_level(points):
    value, locations, weights = inputs(points)
    out = deformable_attention(value, SHAPES, locations, weights, points)
    # The same points, padded to four per level with weight zero.
    locations4, weights4 = torch.zeros(2, 7, 2, 12, 2).double(), torch.zeros(2, 7, 2, 12).double()
    start = 0
    for level, count in enumerate(points):
        locations4[:, :, :, 4 * level : 4 * level + count] = locations[
            :, :, :, start : start + count
        ]
        weights4[:, :, :, 4 * level : 4 * level + count] = weights[:, :, :, start : start + count]
        start += count
    expected = deformable_attention(value, SHAPES, locations4, weights4, [4, 4, 4])
    torch.testing.assert_close(out, expected)


def test_discrete_sampling_is_right_on_rectangles():
    height, width = 2, 5
    value = torch.arange(height * width, dtype=torch.float64).reshape(1, -1, 1, 1)
    # A little left of and above the centre, where the authors' rounding picks the same cell.
    centres = [[(x + 0.4) / width, (y + 0.4) / height] for y in range(height) for x in range(width)]
    locations = torch.tensor(centres, dtype=torch.float64).reshape(1, -1, 1, 1, 2)
    weights = torch.ones(1, height * width, 1, 1, dtype=torch.float64)
    out = deformable_attention(value, [(height, width)], locations, weights, [1], 'discrete')
    assert out.flatten().tolist() == list(range(height * width))


def test_points_start_on_rays_around_the_box():
    attention = DeformableAttention(16, num_heads=4, num_levels=2, num_points=[2, 3])
    offsets = attention.sampling_offsets.bias.reshape(4, 5, 2)
    torch.testing.assert_close(offsets[0], torch.tensor([[1.0, 0], [2, 0], [1, 0], [2, 0], [3, 0]]))
    torch.testing.assert_close(offsets[1, 1], torch.tensor([0.0, 2.0]))
    assert not attention.sampling_offsets.weight.any()


def test_discrete_offsets_are_not_trained():
    attention = DeformableAttention(16, num_heads=4, num_levels=3, method='discrete')
    assert not attention.sampling_offsets.weight.requires_grad
    assert attention.attention_weights.weight.requires_grad


def test_moving_the_box_moves_what_is_seen():
    attention = stand_in_weights(DeformableAttention(8, num_heads=2, num_levels=1, num_points=2))
    with torch.no_grad():
        attention.sampling_offsets.weight.zero_()
        attention.sampling_offsets.bias.zero_()
    memory = torch.zeros(1, 4, 8, 8)
    memory[:, 1, 6] = 1  # one bright cell of a 4 x 8 map
    query = torch.zeros(1, 32, 8)
    boxes = torch.tensor(
        [[(x + 0.5) / 8, (y + 0.5) / 4, 0.1, 0.1] for y in range(4) for x in range(8)]
    )
    out = attention(query, boxes[None], memory.flatten(1, 2), [(4, 8)])[0]
    differs = (out - out[0]).abs().amax(-1) > 1e-4
    assert differs.nonzero().flatten().tolist() == [8 + 6]


def test_positions_are_not_rounded_to_half_precision():
    attention = stand_in_weights(DeformableAttention(16, num_heads=4, num_levels=3))
    query, memory = torch.randn(1, 20, 16), torch.randn(1, LENGTH, 16)
    boxes = torch.rand(1, 20, 4) * 0.5 + 0.25
    exact = attention(query, boxes, memory, SHAPES)
    with torch.autocast('cpu', torch.bfloat16):
        assert (attention(query, boxes, memory, SHAPES) - exact).abs().max() < 0.05
    half = attention.bfloat16()(query.bfloat16(), boxes, memory.bfloat16(), SHAPES)
    assert half.dtype == torch.bfloat16 and (half - exact).abs().max() < 0.1


def test_half_precision_finds_the_same_cell():
    """Cells of 0 and 1 in turn, 300 in a row: a rounded position would mix neighbours."""
    attention = DeformableAttention(4, num_heads=1, num_levels=1, num_points=1)
    with torch.no_grad():
        attention.sampling_offsets.bias.zero_()
        for proj in (attention.value_proj, attention.output_proj):
            proj.weight.copy_(torch.eye(4))
    cells = torch.arange(300)
    memory = (cells % 2).float()[None, :, None].expand(-1, -1, 4)
    boxes = torch.stack([(cells + 0.5) / 300, *torch.full((3, 300), 0.5)], dim=1)[None]
    with torch.autocast('cpu', torch.bfloat16):
        out = attention(torch.zeros(1, 300, 4), boxes, memory, [(1, 300)])
    torch.testing.assert_close(out.float(), memory, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(channels=10, num_heads=4), '10 channels cannot be split into 4 heads'),
        (dict(method='nearest'), "sampling method 'nearest'"),
        (dict(num_points=[4, 4]), 'for 3 levels'),
        (dict(num_points=0), 'expected one number >= 1'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DeformableAttention(**{'channels': 16, 'num_heads': 4, 'num_levels': 3, **kwargs})
