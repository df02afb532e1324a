import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from test_models.test_data_preprocessors.batches import Untouched, painted_batch


def mixup(**arguments):
    return MODELS.build(dict(type='BatchMixUp', **arguments))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(2, 5), st.floats(0, 1), st.integers(0, 100))
def test_images_and_objects_of_both(n, ratio, seed):
    inputs, samples = painted_batch(n, (24, 29), seed=seed)
    untouched = Untouched(inputs, samples)
    out, mixed = mixup(prob=1.0, ratio=(ratio, ratio))(inputs, samples)
    untouched.check()
    for i in range(n):
        torch.testing.assert_close(out[i], ratio * inputs[i] + (1 - ratio) * inputs[i - 1])
        for field in ('gt_instances', 'ignored_instances'):
            for key in ('bboxes', 'labels'):
                both = [samples[j].get(field)[key] for j in (i, i - 1)]
                assert torch.equal(mixed[i].get(field)[key], torch.cat(both))
        assert mixed[i].img_id == i


def test_probability_of_a_batch_and_range_of_the_ratio():
    _, samples = painted_batch(2, (24, 24))
    inputs = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)
    augment = mixup()
    ratios = [augment(inputs, samples)[0][0].item() for _ in range(2000)]
    drawn = np.array([ratio for ratio in ratios if ratio != 1])
    assert abs(len(drawn) / 2000 - 0.5) < 4 * 0.5 / 2000**0.5
    assert 0.45 <= drawn.min() and drawn.max() <= 0.55
    counts = np.histogram(drawn, 5, (0.45, 0.55))[0]
    expected = len(drawn) / 5
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 4 degrees of freedom, p = 0.001


def test_shapes_of_padded_images_cover_both():
    inputs, samples = painted_batch(2, (40, 48), img_shapes=[(40, 30), (32, 48)])
    for sample in mixup(prob=1.0)(inputs, samples)[1]:
        assert sample.img_shape == (40, 48)


def test_images_without_boxes():
    inputs, samples = painted_batch(3, (24, 24), boxes_per_image=0)
    for sample in mixup(prob=1.0)(inputs, samples)[1]:
        assert sample.gt_instances.bboxes.shape == (0, 4)


def test_what_it_cannot_do_is_refused():
    inputs, samples = painted_batch(1, (32, 32))
    with pytest.raises(ValueError, match=r'BatchMixUp got a batch of 1, .*batch_size >= 2'):
        mixup()(inputs, samples)
    with pytest.raises(ValueError, match='prob is'):
        mixup(prob=-1)
    with pytest.raises(ValueError, match='ratio is'):
        mixup(ratio=(0.6, 0.4))
    assert 'ratio=(0.45, 0.55)' in repr(mixup())
