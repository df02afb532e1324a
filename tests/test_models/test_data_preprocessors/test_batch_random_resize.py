from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import PixelData
from test_models.test_data_preprocessors.batches import Untouched, middle, painted_batch

sizes = st.integers(20, 70)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(sizes, sizes, sizes, sizes, st.data())
def test_boxes_and_metainfo_of_padded_batches(height, width, new_height, new_width, data):
    img_shapes = [
        (data.draw(st.integers(20, height)), data.draw(st.integers(20, width))) for _ in range(2)
    ]
    inputs, samples = painted_batch(2, (height, width), img_shapes=img_shapes)
    for sample in samples:
        sample.set_metainfo(dict(scale_factor=(2.0, 0.5)))
    for i, (h, w) in enumerate(img_shapes):  # as padding looks
        inputs[i, :, h:] = inputs[i, :, :, w:] = -1
    untouched = Untouched(inputs, samples)
    augment = MODELS.build(dict(type='BatchRandomResize', sizes=[(new_height, new_width)]))
    out, resized = augment(inputs, samples)
    untouched.check()
    assert torch.equal(out, F.interpolate(inputs, (new_height, new_width)))
    y, x = new_height / height, new_width / width
    for i, (sample, before) in enumerate(zip(resized, samples)):
        assert sample.batch_input_shape == sample.pad_shape == (new_height, new_width)
        h, w = sample.img_shape
        assert (out[i, :, :h, :w] >= 0).all(), 'the image, and'
        # PyTorch's float32 rounding lets the image reach one pixel further at some ratios.
        assert (out[i, :, h + 1 :] == -1).all() and (out[i, :, :, w + 1 :] == -1).all(), 'padding'
        assert sample.scale_factor == pytest.approx((2 * x, 0.5 * y))
        for field in ('gt_instances', 'ignored_instances'):
            boxes = sample.get(field).bboxes
            torch.testing.assert_close(boxes, before.get(field).bboxes * torch.tensor([x, y, x, y]))
            assert (boxes >= 0).all() and (boxes[:, 2:] <= torch.tensor([w, h])).all()
        for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels):
            if min(box[2:] - box[:2]) >= 3:
                row, column = middle(box)
                assert out[i, 0, row, column] == label


def test_frequencies_of_the_published_list(monkeypatch):
    augment = MODELS.build(dict(type='BatchRandomResize'))
    monkeypatch.setattr(F, 'interpolate', lambda inputs, size, mode: (size, mode))
    inputs, samples = painted_batch(1, (20, 20), boxes_per_image=0)
    n = 2000
    drawn = Counter(augment(inputs, samples)[0] for _ in range(n))
    published = Counter([480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800])
    assert set(drawn) == {((size, size), 'nearest') for size in published}
    chi_square = sum(
        (drawn[(size, size), 'nearest'] - n * k / 13) ** 2 / (n * k / 13)
        for size, k in published.items()
    )
    assert chi_square < 29.6  # 10 degrees of freedom, p = 0.001


def test_other_interpolations_and_the_same_size():
    inputs, samples = painted_batch(2, (32, 32))
    augment = MODELS.build(dict(type='BatchRandomResize', sizes=[32]))
    out, same = augment(inputs, samples)
    assert out is inputs and same is samples
    augment = MODELS.build(dict(type='BatchRandomResize', sizes=[64], interpolation='bilinear'))
    out, _ = augment(inputs, samples)
    assert torch.equal(out, F.interpolate(inputs, (64, 64), mode='bilinear'))
    assert 'bilinear' in repr(augment)


def test_empty_images():
    inputs, samples = painted_batch(2, (32, 40), boxes_per_image=0)
    samples[0].ignored_instances = type(samples[0].ignored_instances)()  # as mmdet packs none
    _, resized = MODELS.build(dict(type='BatchRandomResize', sizes=[64]))(inputs, samples)
    assert [len(sample.gt_instances) for sample in resized] == [0, 0]


def test_masks_follow():
    inputs, samples = painted_batch(1, (32, 32))
    x1, y1, x2, y2 = samples[0].gt_instances.bboxes.int().T.tolist()
    masks = np.zeros((2, 32, 32), np.uint8)
    for i in range(2):
        masks[i, y1[i] : y2[i], x1[i] : x2[i]] = 1
    samples[0].gt_instances.masks = BitmapMasks(masks, 32, 32)
    out, resized = MODELS.build(dict(type='BatchRandomResize', sizes=[(64, 96)]))(inputs, samples)
    after = resized[0].gt_instances
    assert after.masks.masks.shape == (2, 64, 96)
    for mask, label in zip(after.masks.masks, after.labels):
        assert torch.equal(torch.from_numpy(mask).bool(), out[0, 0] == label)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(sizes=[]), 'sizes is empty'),
        (dict(sizes=[640, 0]), 'sizes holds 0'),
        (dict(sizes=[(640, 640, 3)]), r'sizes holds \(640, 640, 3\)'),
        (dict(sizes=[640.0]), r'sizes holds 640\.0'),
        (dict(interpolation='linear'), "interpolation is 'linear'"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='BatchRandomResize', **arguments))


def test_what_would_not_follow_is_refused():
    augment = MODELS.build(dict(type='BatchRandomResize', sizes=[64]))
    inputs, samples = painted_batch(1, (32, 32))
    samples[0].gt_instances.bboxes = HorizontalBoxes(samples[0].gt_instances.bboxes)
    with pytest.raises(ValueError, match='boxtype2tensor=True'):
        augment(inputs, samples)
    inputs, samples = painted_batch(1, (32, 32))
    samples[0].gt_sem_seg = PixelData(sem_seg=torch.zeros(1, 32, 32))
    with pytest.raises(ValueError, match='with_seg=False'):
        augment(inputs, samples)
