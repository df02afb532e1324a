"""mmdet's Expand, as our configs set it, is torchvision's RandomZoomOut(fill=0, p=0.5)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

ZOOM_OUT = dict(type='Expand', mean=[0, 0, 0], to_rgb=False, ratio_range=(1, 4), prob=0.5)


def zoom_out(height, width, boxes, **arguments):
    img = np.zeros((height, width, 3), np.uint8)
    img[:] = 9
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        img[y1:y2, x1:x2] = 10 + i
    results = dict(
        img=img,
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(np.float32(boxes)),
        gt_bboxes_labels=np.arange(len(boxes)) + 10,
    )
    return img, TRANSFORMS.build(dict(ZOOM_OUT, **arguments))(results)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 10**6))
def test_boxes_labels_and_black_canvas(height, width, seed):
    np.random.seed(seed)
    boxes = [(0, 0, 3, 2), (width - 4, height - 3, width, height)]
    img, out = zoom_out(height, width, boxes, prob=1.0)
    h, w = out['img_shape']
    assert out['img'].shape == (h, w, 3) and height <= h <= 4 * height and width <= w <= 4 * width
    # One ratio for both sides, each rounded down.
    assert max(h / height, w / width) < min((h + 1) / height, (w + 1) / width)
    assert out['img'].sum() == img.sum(), 'the image is there once, the rest is black'
    np.testing.assert_array_equal(out['gt_bboxes_labels'], [10, 11])
    for (x1, y1, x2, y2), label in zip(out['gt_bboxes'].tensor.int().tolist(), (10, 11)):
        assert (out['img'][y1:y2, x1:x2] == label).all()
        assert (out['img'] == label).sum() == 3 * (x2 - x1) * (y2 - y1)


def test_distribution_of_the_ratio_and_the_place():
    n = 800
    ratios, places = [], []
    for _ in range(n):
        _, out = zoom_out(100, 100, [(0, 0, 1, 1)])
        h = out['img_shape'][0]
        if h > 100:
            ratios.append(h / 100)
            places.append(out['gt_bboxes'].tensor[0, 0].item() / (h - 100))
    assert abs(len(ratios) / n - 0.5) < 4 * 0.5 / n**0.5 + 0.01  # ratios below 1.01 show no change
    for values, low, high in ((ratios, 1, 4), (places, 0, 1)):
        counts = np.histogram(values, 6, (low, high))[0]
        expected = len(values) / 6
        assert ((counts - expected) ** 2 / expected).sum() < 20.5  # 5 degrees of freedom, p = 0.001
