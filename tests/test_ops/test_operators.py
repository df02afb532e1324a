"""Each operator against its definition, written as loops over single numbers.

Every test runs on the stand-ins and, through the same functions of mmcv, on whatever operators are
installed: where mmcv is compiled, on those.
"""

import importlib
import math
import sys

import mmcv.ops  # noqa: F401
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

from mmdet_vanilla.ops import using_stand_ins
from mmdet_vanilla.ops.extension import _Finder
from mmdet_vanilla.ops.operators import OPERATORS

# Those that a compiled mmcv has on a CPU; the others are for GPUs alone there.
ON_A_CPU = ['nms', 'bbox', 'roi_align', 'deform_conv', 'modulated_deform_conv']
STAND_INS = _Finder().create_module(_Finder().find_spec('mmcv._ext'))


def of_mmcv(name):
    return importlib.import_module(f'mmcv.ops.{name}') and sys.modules[f'mmcv.ops.{name}']


@pytest.fixture(params=['stand-ins', 'installed'])
def either(request, monkeypatch):
    if request.param == 'stand-ins':
        for name in ON_A_CPU:
            monkeypatch.setattr(of_mmcv(name), 'ext_module', STAND_INS)


@pytest.fixture
def stand_ins(monkeypatch):
    names = ('roi_align', 'roi_pool', 'carafe', 'focal_loss', 'masked_conv')
    for name in (*names, 'multi_scale_deform_attn'):
        monkeypatch.setattr(of_mmcv(name), 'ext_module', STAND_INS)


def random_boxes(count, seed=0, size=60.0):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + generator.uniform(0, size / 2, (count, 2))], 1).astype(
        np.float32
    )


def iou(a, b, offset=0):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def kept_by_definition(boxes, scores, threshold, offset=0):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(iou(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize('count, offset', [(0, 0), (1, 0), (60, 0), (60, 1), (1300, 0)])
def test_nms_keeps_what_no_better_kept_box_covers(either, count, offset):
    boxes = random_boxes(count, size=60.0 if count < 100 else 2000.0).astype(np.float64)
    boxes, scores = boxes.astype(np.float32), np.random.default_rng(1).permutation(count)
    scores = (scores / max(1, count)).astype(np.float32)
    dets, kept = mmcv.ops.nms(boxes, scores, 0.4, offset=offset)
    assert kept.tolist() == kept_by_definition(boxes.astype(float), scores, 0.4, offset)
    np.testing.assert_array_equal(dets, np.concatenate([boxes, scores[:, None]], 1)[kept])


@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_nms_of_any_boxes(seed, threshold, count):
    boxes = random_boxes(count, seed)
    scores = np.random.default_rng(seed).permutation(count).astype(np.float32)
    ours = STAND_INS.nms(
        torch.tensor(boxes), torch.tensor(scores), iou_threshold=threshold, offset=0
    ).tolist()
    ious = [[iou(a, b) for b in boxes.astype(float)] for a in boxes.astype(float)]
    if not any(abs(value - threshold) < 1e-5 for row in ious for value in row):
        assert ours == kept_by_definition(boxes.astype(float), scores, threshold)


def test_nms_across_blocks_knows_what_an_earlier_block_kept(either):
    # 600 copies of one box, and further ones: more than one block is compared at once
    boxes = torch.cat([torch.tensor([[0.0, 0, 10, 10]]).repeat(600, 1), torch.rand(700, 4)])
    boxes[600:, 2:] += boxes[600:, :2] + 100
    boxes[600:] += 1000 + 1000 * torch.arange(700.0)[:, None]
    kept = mmcv.ops.nms(boxes, torch.linspace(1, 0.1, 1300), 0.5)[1]
    assert kept.tolist() == [0, *range(600, 1300)]


def test_equal_scores_keep_the_order_of_the_input(stand_ins):
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    scores = torch.full((3,), 0.5)
    assert STAND_INS.nms(boxes, scores, iou_threshold=0.5, offset=0).tolist() == [0, 2]


def test_nms_of_nothing_and_of_boxes_without_area(either):
    assert len(mmcv.ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)[1]) == 0
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]])
    kept = mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1]
    assert sorted(kept.tolist()) == [0, 1, 2]  # the IoU of two boxes without area is 0 / 0


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_lowers_the_scores_of_what_a_better_box_covers(either, method, offset):
    boxes = random_boxes(30)
    scores = np.random.default_rng(1).permutation(30).astype(np.float32) / 30
    left, expected = {index: float(score) for index, score in enumerate(scores)}, []
    while left:
        best = max(left, key=left.get)
        expected.append((best, left.pop(best)))
        for index in list(left):
            overlap = iou(boxes[best].astype(float), boxes[index].astype(float), offset)
            if method == 'gaussian':
                left[index] *= math.exp(-(overlap**2) / 0.5)
            elif overlap >= 0.3:
                left[index] *= 1 - overlap if method == 'linear' else 0
            if left[index] < 0.05:
                del left[index]
    dets, kept = mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-5)
    np.testing.assert_array_equal(dets[:, :4], boxes[kept])


def test_nms_match_groups_each_box_with_what_it_suppresses(either):
    boxes = random_boxes(40)
    scores = np.random.default_rng(1).permutation(40).astype(np.float32)
    groups, left = [], sorted(range(40), key=lambda index: -scores[index])
    while left:
        best = left.pop(0)
        covered = [index for index in left if iou(boxes[best], boxes[index]) >= 0.3]
        groups.append([best, *covered])
        left = [index for index in left if index not in covered]
    found = mmcv.ops.nms_match(np.concatenate([boxes, scores[:, None]], 1), 0.3)
    assert [group.tolist() for group in found] == groups


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('offset', [0, 1])
def test_overlaps(either, mode, offset):
    first, second = random_boxes(6), random_boxes(6, seed=1)

    def overlap(a, b):
        value = iou(a, b, offset)
        area = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
        inter = value * sum(area) / (1 + value)
        return value if mode == 'iou' else inter / area[0]

    expected = np.array(
        [[overlap(a, b) for b in second.astype(float)] for a in first.astype(float)]
    )
    options = dict(mode=mode, offset=offset)
    found = mmcv.ops.bbox_overlaps(torch.tensor(first), torch.tensor(second), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    found = mmcv.ops.bbox_overlaps(
        torch.tensor(first), torch.tensor(second), aligned=True, **options
    )
    np.testing.assert_allclose(found, np.diag(expected), rtol=1e-4, atol=1e-6)


def bilinear(plane, y, x):
    """RoIAlign's reading of a plane: 0 beyond one cell outside, else the border's value."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    rows = plane[y0], plane[y1]
    upper, lower = ((1 - dx) * row[x0] + dx * row[x1] for row in rows)
    return float((1 - dy) * upper + dy * lower)


def roi_align_by_definition(features, rois, size, scale, ratio, mode, aligned):
    out = np.zeros((len(rois), features.shape[1], *size))
    for r, (image, *box) in enumerate(rois):
        left, top, right, bottom = (value * scale - (0.5 if aligned else 0) for value in box)
        width, height = right - left, bottom - top
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        grid_h, grid_w = (ratio or math.ceil(bin_) for bin_ in (bin_h, bin_w))
        for c, plane in enumerate(features[int(image)]):
            for p in range(size[0]):
                for q in range(size[1]):
                    samples = [
                        bilinear(
                            plane,
                            top + (p + (i + 0.5) / grid_h) * bin_h,
                            left + (q + (j + 0.5) / grid_w) * bin_w,
                        )
                        for i in range(grid_h)
                        for j in range(grid_w)
                    ]
                    if samples:
                        out[r, c, p, q] = max(samples) if mode == 'max' else np.mean(samples)
    return out


ROIS = np.array(
    [
        [0, 3.0, 4.0, 40.0, 30.0],
        [1, -12.0, -9.0, 20.0, 70.0],  # beyond the border
        [1, 10.0, 12.0, 10.5, 12.4],  # smaller than a cell
        [0, 70.0, 70.0, 90.0, 95.0],  # wholly outside
        [1, 0.0, 0.0, 63.0, 47.0],
    ]
)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_samples_each_bin(either, mode, aligned, ratio):
    features = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    rois = torch.tensor(ROIS)
    found = mmcv.ops.roi_align(features, rois, (3, 4), 0.25, ratio, mode, aligned)
    expected = roi_align_by_definition(features.numpy(), ROIS, (3, 4), 0.25, ratio, mode, aligned)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_roi_align_can_be_trained(either):
    features = torch.randn(2, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(ROIS)
    torch.autograd.gradcheck(
        lambda x: mmcv.ops.roi_align(x, rois, (2, 3), 0.125, 0, 'avg', True), [features]
    )


def test_roi_align_without_regions(either):
    features = torch.randn(1, 2, 6, 8, requires_grad=True)
    out = mmcv.ops.roi_align(features, torch.zeros(0, 5), (2, 3), 0.125, 0, 'avg', True)
    assert out.shape == (0, 2, 2, 3)
    out.sum().backward()
    assert not features.grad.any()


def test_a_region_that_is_turned_round_is_refused(stand_ins):
    with pytest.raises(ValueError, match='x1 <= x2'):
        mmcv.ops.roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 9, 9, 1, 1]]), (2, 2))


def test_roi_pool_takes_the_maximum_of_each_bin_and_its_gradient(stand_ins):
    features = torch.randn(2, 3, 12, 16, dtype=torch.float64, requires_grad=True)
    expected = np.zeros((len(ROIS), 3, 3, 4))
    grads = np.zeros(features.shape)
    for r, (image, *box) in enumerate(ROIS):
        left, top = box[0] * 0.25, box[1] * 0.25
        width, height = (box[2] + 1) * 0.25 - left, (box[3] + 1) * 0.25 - top
        for p in range(3):
            rows = range(
                max(0, math.floor(top + p * height / 3)),
                min(12, math.ceil(top + (p + 1) * height / 3)),
            )
            for q in range(4):
                columns = range(
                    max(0, math.floor(left + q * width / 4)),
                    min(16, math.ceil(left + (q + 1) * width / 4)),
                )
                for c in range(3):
                    cells = {(y, x): features[int(image), c, y, x].item()
                             for y in rows for x in columns}  # fmt: skip
                    if cells:
                        y, x = max(cells, key=cells.get)
                        expected[r, c, p, q] = cells[y, x]
                        grads[int(image), c, y, x] += 1
    out = mmcv.ops.roi_pool(features, torch.tensor(ROIS), (3, 4), 0.25)
    np.testing.assert_allclose(out.detach(), expected)
    out.sum().backward()
    np.testing.assert_allclose(features.grad, grads)


def deform_conv_by_definition(x, offset, mask, weight, stride, padding, dilation, groups, deform):
    batch, channels, height, width = x.shape
    out_channels, per_group, kernel_h, kernel_w = weight.shape
    out = np.zeros((batch, out_channels, *offset.shape[2:]))
    for n, o, p, q in np.ndindex(*out.shape):
        for c, i, j in np.ndindex(per_group, kernel_h, kernel_w):
            channel = o // (out_channels // groups) * per_group + c
            group = channel // (channels // deform)
            place = group * kernel_h * kernel_w + i * kernel_w + j
            y = p * stride[0] - padding[0] + i * dilation[0] + offset[n, 2 * place, p, q]
            z = q * stride[1] - padding[1] + j * dilation[1] + offset[n, 2 * place + 1, p, q]
            value = 0.0
            for row, column in np.ndindex(2, 2):
                v, u = math.floor(y) + row, math.floor(z) + column
                if 0 <= v < height and 0 <= u < width:
                    value += x[n, channel, v, u] * (1 - abs(y - v)) * (1 - abs(z - u))
            out[n, o, p, q] += (
                value * weight[o, c, i, j] * (1 if mask is None else mask[n, place, p, q])
            )
    return out


GEOMETRIES = [
    dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, deform=1),
    dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2, deform=1),
    dict(stride=(1, 2), padding=(1, 0), dilation=(1, 1), groups=2, deform=4),
]


def deform_conv_inputs(geometry):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64, generator=generator)
    weight = torch.randn(6, 4 // geometry['groups'], 3, 2, dtype=torch.float64, generator=generator)
    size = [
        (x.shape[2 + axis] + 2 * geometry['padding'][axis]
         - geometry['dilation'][axis] * (weight.shape[2 + axis] - 1) - 1)
        // geometry['stride'][axis] + 1
        for axis in (0, 1)
    ]  # fmt: skip
    places = geometry['deform'] * 6
    offset = 2 * torch.randn(2, 2 * places, *size, dtype=torch.float64, generator=generator)
    mask = torch.rand(2, places, *size, dtype=torch.float64, generator=generator)
    return x, offset, mask, weight


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deformable_convolutions_read_where_the_offsets_say(either, geometry):
    x, offset, mask, weight = deform_conv_inputs(geometry)
    arrays = [tensor.numpy() for tensor in (x, offset, mask, weight)]
    expected = deform_conv_by_definition(arrays[0], arrays[1], None, arrays[3], **geometry)
    options = tuple(geometry.values())
    np.testing.assert_allclose(mmcv.ops.deform_conv2d(x, offset, weight, *options), expected)
    expected = deform_conv_by_definition(*arrays, **geometry)
    bias = torch.arange(6, dtype=torch.float64)
    found = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *options)
    np.testing.assert_allclose(found, expected + np.arange(6)[:, None, None])


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deformable_convolutions_can_be_trained(either, geometry):
    x, offset, mask, weight = deform_conv_inputs(geometry)
    offset = offset.floor() + 0.2 + 0.6 * torch.rand_like(offset)  # where it can be derived
    inputs = [tensor.requires_grad_() for tensor in (x, offset, weight)]
    options = tuple(geometry.values())
    torch.autograd.gradcheck(
        lambda x, o, w: mmcv.ops.deform_conv2d(x, o, w, *options), inputs, fast_mode=True
    )
    bias = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda x, o, m, w, b: mmcv.ops.modulated_deform_conv2d(x, o, m, w, b, *options),
        [inputs[0], inputs[1], mask.requires_grad_(), inputs[2], bias],
        fast_mode=True,
    )


def test_a_deformable_convolution_without_offsets_is_a_convolution(either):
    x, weight = torch.randn(2, 4, 9, 8), torch.randn(6, 4, 3, 3)
    found = mmcv.ops.deform_conv2d(x, torch.zeros(2, 18, 9, 8), weight, 1, 1)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('weighted', [False, True])
def test_focal_loss_and_its_gradient(stand_ins, weighted):
    logits = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 3, 4, 1, 4, 2, 0])  # 4 is the background
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    found = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'none')
    one_hot = F.one_hot(target, 5)[:, :4]
    expected = py_sigmoid_focal_loss(logits, one_hot, reduction='none')
    if weighted:
        expected = expected * weight[target.clamp(max=3), None]
    torch.testing.assert_close(found, expected)
    (mine,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(mine, torch.autograd.grad(expected.sum(), logits)[0])


def test_deformable_attention_is_mmcvs_own(stand_ins):
    module = of_mmcv('multi_scale_deform_attn')
    shapes = torch.tensor([[4, 5], [2, 3]])
    value = torch.randn(2, 26, 2, 3, dtype=torch.float64, requires_grad=True)
    places = torch.rand(2, 4, 2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 4, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    inputs = [value, places, weights]
    found = module.MultiScaleDeformableAttnFunction.apply(
        value, shapes, torch.tensor([0, 20]), places, weights, 64
    )
    expected = module.multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found.square().sum(), inputs)
    for mine, theirs in zip(grads, torch.autograd.grad(expected.square().sum(), inputs)):
        torch.testing.assert_close(mine, theirs)


def test_carafe_sums_the_weighted_neighbours_of_the_cell_below(stand_ins):
    features = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(1, 2 * 9, 6, 8, dtype=torch.float64, requires_grad=True)
    found = mmcv.ops.carafe(features, masks, 3, 2, 2)
    for c, y, x in np.ndindex(4, 6, 8):
        expected = 0.0
        for i, j in np.ndindex(3, 3):
            v, u = y // 2 + i - 1, x // 2 + j - 1
            if 0 <= v < 3 and 0 <= u < 4:
                place = c // 2 * 9 + i * 3 + j
                expected += (features[0, c, v, u] * masks[0, place, y, x]).item()
        assert found[0, c, y, x].item() == pytest.approx(expected)
    torch.autograd.gradcheck(
        lambda x, m: mmcv.ops.carafe(x, m, 3, 2, 2), [features, masks], fast_mode=True
    )


def test_a_masked_convolution_is_one_in_the_marked_cells(stand_ins):
    conv = mmcv.ops.MaskedConv2d(3, 5, 3, padding=1).eval()
    x, mask = torch.randn(1, 3, 6, 7), torch.rand(1, 6, 7) > 0.5
    with torch.no_grad():
        found, expected = conv(x, mask), conv(x) * mask
    torch.testing.assert_close(found, expected)
    assert not conv(x, torch.zeros(1, 6, 7)).any()


def test_every_operator_that_the_package_names_is_one_that_mmcv_asks_for():
    # an operator under a name that mmcv does not look up would never be called
    import ast
    from pathlib import Path

    asked = set()
    for path in Path(mmcv.ops.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load_ext':
                asked.update(name.value for name in ast.walk(node.args[1]) if hasattr(name, 'value')
                             and isinstance(name, ast.Constant))  # fmt: skip
    assert set(OPERATORS) <= asked


def test_an_operator_that_is_missing_says_which_and_how_to_get_it():
    with pytest.raises(NotImplementedError, match='nms_rotated has no stand-in.*compile mmcv'):
        STAND_INS.nms_rotated()


def test_compiled_operators_win():
    path = importlib.util.find_spec('mmcv._ext')
    assert using_stand_ins() == (path.origin is None)
