import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from test_models.test_data_preprocessors.batches import Untouched, middle, painted_batch


def mosaic(**arguments):
    return MODELS.build(dict(type='BatchMosaic', **arguments))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 6), st.integers(24, 61), st.integers(24, 61), st.integers(0, 10**6))
def test_boxes_and_labels_follow_the_pixels(n, height, width, seed):
    np.random.seed(seed)
    inputs, samples = painted_batch(n, (height, width), seed=seed)
    untouched = Untouched(inputs, samples)
    out, mosaics = mosaic(prob=1.0)(inputs, samples)
    untouched.check()
    assert out.shape == inputs.shape
    for i, sample in enumerate(mosaics):
        truth = sample.gt_instances
        assert len(truth) == 8 and len(sample.ignored_instances) == 4
        assert sample.img_shape == sample.pad_shape == sample.batch_input_shape == (height, width)
        assert sample.img_id == i
        own = set(samples[i].gt_instances.labels.tolist())
        assert own <= set(truth.labels.tolist()), 'the image itself is in its mosaic'
        sources = {(label - 1) // 2 for label in truth.labels.tolist()}
        assert len(sources) == 4 if n >= 4 else len(sources) >= 2
        ignored = sample.ignored_instances.labels.tolist()
        assert {label - 1000 for label in ignored} == sources, 'ignored ones are of the same images'
        assert (truth.bboxes >= 0).all()
        assert (truth.bboxes[:, 2:] <= torch.tensor([width, height])).all()
        for box, label in zip(truth.bboxes, truth.labels):
            row, column = middle(box)
            # Boxes of 8 px and more are 4 here, and antialiasing blurs less than 2 at each edge.
            torch.testing.assert_close(out[i, 0, row, column], label.float(), rtol=0.02, atol=0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(2, 33), st.integers(2, 33))
def test_tiles_cover_the_output_of_any_size(height, width):
    inputs = torch.arange(1.0, 5).reshape(4, 1, 1, 1).expand(4, 1, height, width)
    _, samples = painted_batch(4, (40, 40), boxes_per_image=0)
    for sample in samples:
        sample.gt_instances.bboxes = torch.tensor([[0.0, 0, width, height]])
        sample.gt_instances.labels = torch.tensor([sample.img_id + 1])
    out, mosaics = mosaic(prob=1.0, min_size=0)(inputs, samples)
    for image, sample in zip(out, mosaics):
        covered = torch.zeros(height, width)
        for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels):
            x1, y1, x2, y2 = box.round().int().tolist()
            torch.testing.assert_close(box, box.round())
            assert torch.allclose(image[0, y1:y2, x1:x2], label.float())
            covered[y1:y2, x1:x2] += 1
        assert (covered == 1).all()


def test_padded_batches_shrink_with_their_padding():
    img_shapes = [(40, 30), (32, 48), (40, 48), (20, 20)]
    inputs, samples = painted_batch(4, (40, 48), img_shapes=img_shapes)
    _, mosaics = mosaic(prob=1.0)(inputs, samples)
    half = {
        label: box / 2
        for sample in samples
        for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels.tolist())
    }
    for sample in mosaics:
        for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels.tolist()):
            offset = box - half[label]
            assert offset[0] in (0, 24) and offset[1] in (0, 20)
            torch.testing.assert_close(offset[:2], offset[2:])


def test_probability_of_an_image_and_of_a_place():
    inputs, samples = painted_batch(5, (24, 24), boxes_per_image=1)
    replaced, places = [], []
    augment = mosaic(prob=0.3)
    for _ in range(400):
        _, out = augment(inputs, samples)
        for i, sample in enumerate(out):
            replaced.append(sample is not samples[i])
            if replaced[-1]:
                box = sample.gt_instances.bboxes[sample.gt_instances.labels == i + 1][0]
                places.append(int(box[0] >= 12) + 2 * int(box[1] >= 12))
    assert abs(np.mean(replaced) - 0.3) < 4 * (0.21 / 2000) ** 0.5
    expected = len(places) / 4
    counts = np.bincount(places, minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001
    out, same = mosaic(prob=0.0)(inputs, samples)
    assert out is inputs and same is samples


def test_small_boxes_are_dropped():
    inputs, samples = painted_batch(4, (32, 32), boxes_per_image=0)
    for sample in samples:
        sample.gt_instances.bboxes = torch.tensor([[4.0, 4, 5.9, 20], [4, 4, 6, 6], [4, 4, 20, 5]])
        sample.gt_instances.labels = torch.tensor([0, 1, 2])
    for min_size, kept in ((1, [1]), (0, [0, 1, 2]), (1.5, [])):
        for sample in mosaic(prob=1.0, min_size=min_size)(inputs, samples)[1]:
            assert sorted(sample.gt_instances.labels.tolist()) == sorted(kept * 4)


def test_boxes_over_the_border_stay_in_their_tile():
    inputs, samples = painted_batch(2, (32, 32), boxes_per_image=0)
    for sample in samples:
        sample.gt_instances.bboxes = torch.tensor([[-8.0, -8, 40, 40]])
        sample.gt_instances.labels = torch.tensor([0])
    for sample in mosaic(prob=1.0)(inputs, samples)[1]:
        boxes = sorted(sample.gt_instances.bboxes.tolist())
        assert boxes == [[0, 0, 16, 16], [0, 16, 16, 32], [16, 0, 32, 16], [16, 16, 32, 32]]


@pytest.mark.parametrize('min_size', [0, 1])
def test_images_without_boxes(min_size):
    inputs, samples = painted_batch(4, (24, 24), boxes_per_image=0)
    samples[0].ignored_instances = type(samples[0].ignored_instances)()  # as mmdet packs none
    _, mosaics = mosaic(prob=1.0, min_size=min_size)(inputs, samples)
    for sample in mosaics:
        assert sample.gt_instances.bboxes.shape == (0, 4)
        assert len(sample.ignored_instances) == 3


def test_what_it_cannot_do_is_refused():
    inputs, samples = painted_batch(1, (32, 32))
    for prob in (0.0, 1.0):  # at once, not when a mosaic is first drawn
        with pytest.raises(ValueError, match=r'batch of 1, .*batch_size >= 2'):
            mosaic(prob=prob)(inputs, samples)
    inputs, samples = painted_batch(2, (32, 32))
    samples[1].gt_instances.masks = BitmapMasks(np.zeros((2, 32, 32), np.uint8), 32, 32)
    with pytest.raises(ValueError, match='with_mask=False'):
        mosaic()(inputs, samples)
    with pytest.raises(ValueError, match='prob is 2'):
        mosaic(prob=2)
    with pytest.raises(ValueError, match='min_size is -1'):
        mosaic(min_size=-1)
    assert 'prob=0.5, min_size=0.0' in repr(mosaic())
