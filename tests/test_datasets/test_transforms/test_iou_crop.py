import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmdet_vanilla.datasets.transforms import RandomIoUCrop


def painted(boxes, shape, ignore=None):
    """An image with box i in colour i + 1, and its annotations."""
    img = np.zeros((*shape, 3), np.uint8)
    masks = np.zeros((len(boxes), *shape), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        img[max(y1, 0) : y2, max(x1, 0) : x2] = i + 1
        masks[i, max(y1, 0) : y2, max(x1, 0) : x2] = 1
    return dict(
        img=img,
        img_shape=shape,
        gt_bboxes=HorizontalBoxes(np.array(boxes, np.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.arange(len(boxes)) + 1,
        gt_ignore_flags=np.array(ignore if ignore is not None else [False] * len(boxes), bool),
        gt_masks=BitmapMasks(masks, *shape),
        gt_seg_map=img[..., 0].copy(),
    )


def disjoint_boxes(shape, rng):
    """One box in each of some cells of a grid, so that colours do not hide each other."""
    rows, columns = np.linspace(0, shape[0], 4).astype(int), np.linspace(0, shape[1], 4).astype(int)
    boxes = []
    for cell in rng.permutation(9)[: rng.integers(1, 6)]:
        top, bottom = rows[cell // 3], rows[cell // 3 + 1]
        left, right = columns[cell % 3], columns[cell % 3 + 1]
        y1, x1 = rng.integers(top, bottom - 4), rng.integers(left, right - 4)
        boxes.append((x1, y1, rng.integers(x1 + 3, right), rng.integers(y1 + 3, bottom)))
    return boxes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(30, 70), st.integers(30, 70), st.integers(0, 10**6))
def test_labels_masks_and_pixels_follow_their_boxes(height, width, seed):
    rng = np.random.default_rng(seed)
    np.random.seed(seed)
    before = painted(disjoint_boxes((height, width), rng), (height, width))
    out = RandomIoUCrop(prob=1.0)({**before})
    h, w = out['img_shape']
    assert out['img'].shape == (h, w, 3) and out['gt_seg_map'].shape == (h, w)
    assert isinstance(out['gt_bboxes'], HorizontalBoxes)
    boxes = out['gt_bboxes'].tensor.numpy()
    count = len(boxes)
    assert count == len(out['gt_bboxes_labels']) == len(out['gt_ignore_flags'])
    assert count == len(out['gt_masks']) >= 1
    assert (boxes >= 0).all() and (boxes[:, 2:] <= (w, h)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for (x1, y1, x2, y2), label, mask in zip(
        boxes.astype(int), out['gt_bboxes_labels'], out['gt_masks'].masks
    ):
        inside = np.zeros((h, w), bool)
        inside[y1:y2, x1:x2] = True
        np.testing.assert_array_equal(out['img'][..., 0] == label, inside)
        np.testing.assert_array_equal(out['gt_seg_map'] == label, inside)
        np.testing.assert_array_equal(mask.astype(bool), inside)


@pytest.mark.parametrize('min_iou', [0.0, 0.1, 0.3, 0.5])
def test_accepted_crops_have_a_centre_inside_and_its_iou(min_iou):
    transform = RandomIoUCrop(min_ious=(min_iou, 1.0), prob=1.0)
    width, height = 60, 40
    boxes = HorizontalBoxes(np.float32([[2, 3, 40, 36], [30, 5, 36, 10], [44, 20, 58, 38]]))
    crops = [transform._random_crop(height, width, boxes) for _ in range(150)]
    crops = [crop for crop in crops if crop is not None]
    assert len(crops) > 20
    below_with_another = 0
    for crop in crops:
        x1, y1, x2, y2 = crop
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert x2 - x1 >= int(0.3 * width) and y2 - y1 >= int(0.3 * height)
        assert 0.5 <= (x2 - x1) / (y2 - y1) <= 2
        ious = []
        for a1, b1, a2, b2 in boxes.tensor.tolist():
            if x1 < (a1 + a2) / 2 < x2 and y1 < (b1 + b2) / 2 < y2:
                overlap = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
                union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - overlap
                ious.append(overlap / union)
        assert max(ious) >= min_iou - 1e-6
        below_with_another += min(ious) < min_iou
    # The best box decides, where mmdet's class wants all of them above the minimum.
    assert min_iou == 0 or below_with_another


def test_frequencies():
    n = 1500
    boxes = HorizontalBoxes(np.float32([[0, 0, 64, 64]]))
    # With this box and minimum every crop with its centre inside passes, so 1.0 is half of all.
    transform = RandomIoUCrop(min_ious=(0.0, 1.0), prob=0.8)
    whole = np.mean([transform._random_crop(64, 64, boxes) is None for _ in range(n)])
    assert abs(whole - 0.6) < 4 * (0.24 / n) ** 0.5
    # Of sides of 0.6 and more nothing is rejected, so that they are uniform.
    boxes = HorizontalBoxes(np.float32([[0, 0, 1000, 1000]]))
    transform = RandomIoUCrop(min_ious=(0.0, 1.0), scale=(0.6, 1.0), prob=1.0)
    crops = np.array(
        [crop for _ in range(n) if (crop := transform._random_crop(1000, 1000, boxes))]
    )
    sides = crops[:, 2:] - crops[:, :2]
    for values in (*((sides - 600) / 400).T, *(crops[:, :2] / (1000 - sides)).T):
        counts = np.histogram(values, 5, (0, 1))[0]
        expected = len(crops) / 5
        assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 4 d.o.f., p = 0.001


def test_default_options_are_torchvisions():
    transform = TRANSFORMS.build(dict(type='RandomIoUCrop'))
    assert transform.min_ious == (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    assert transform.scale == (0.3, 1.0) and transform.aspect_ratio == (0.5, 2.0)
    assert transform.trials == 40 and transform.prob == 0.8
    assert 'prob=0.8' in repr(transform)


def test_whole_image_options_and_probability_zero_change_nothing():
    before = painted([(5, 5, 20, 20)], (40, 30))
    for transform in (RandomIoUCrop(min_ious=(1.0, 2.0), prob=1.0), RandomIoUCrop(prob=0.0)):
        out = transform({**before})
        assert all(out[key] is before[key] for key in before)


@pytest.mark.parametrize('ignore', [[], [True]])
def test_images_without_boxes_stay(ignore):
    before = painted([(5, 5, 20, 20)] * len(ignore), (40, 30), ignore)
    for _ in range(10):
        out = RandomIoUCrop(prob=1.0)({**before})
        assert out['img'].shape == (40, 30, 3) and len(out['gt_bboxes']) == len(ignore)
    assert RandomIoUCrop(prob=1.0)(dict(img=before['img']))['img'] is before['img']


def test_ignored_boxes_follow_but_do_not_justify_a_crop():
    before = painted([(0, 0, 20, 20), (30, 30, 50, 50)], (50, 50), [False, True])
    transform = RandomIoUCrop(min_ious=(0.3, 1.0), prob=1.0)
    seen = set()
    for _ in range(40):
        out = transform({**before})
        assert not out['gt_ignore_flags'].all()
        assert (out['gt_ignore_flags'] == (out['gt_bboxes_labels'] == 2)).all()
        seen.add(len(out['gt_bboxes']))
    assert seen == {1, 2}


def test_boxes_over_the_border_are_clipped():
    for _ in range(20):
        out = RandomIoUCrop(prob=1.0)(painted([(-10, 4, 60, 30)], (40, 50)))
        if out['img_shape'] != (40, 50):
            boxes = out['gt_bboxes'].tensor
            assert (boxes >= 0).all() and boxes[0, 2] == out['img_shape'][1]
            return
    raise AssertionError('no crop was drawn')


def test_tiny_images_end():
    for size in (1, 2, 3):
        out = RandomIoUCrop(prob=1.0)(painted([(0, 0, size, size)], (size, size)))
        assert min(out['img_shape']) >= 1 and len(out['gt_bboxes']) == 1


def test_arrays_stay_arrays_and_the_given_boxes_stay():
    boxes = np.float32([[5, 5, 20, 20], [22, 25, 29, 38]])
    before = boxes.copy()
    sizes = set()
    for _ in range(20):
        results = dict(img=np.zeros((40, 30, 3), np.uint8), gt_bboxes=boxes)
        out = RandomIoUCrop(prob=1.0)(results)
        assert isinstance(out['gt_bboxes'], np.ndarray)
        sizes.add(out['img'].shape)
    assert len(sizes) > 1
    np.testing.assert_array_equal(boxes, before)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(min_ious=(0.1, 0.5)), 'add 1.0'),
        (dict(scale=(0.3, 1.2)), 'scale is'),
        (dict(aspect_ratio=(2, 0.5)), 'aspect_ratio is'),
        (dict(trials=0), 'trials is 0'),
        (dict(prob=-0.1), 'prob is'),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='RandomIoUCrop', **arguments))
