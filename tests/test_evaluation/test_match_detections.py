import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmdet_vanilla.evaluation import compare_detections


def detections(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 500
    size = torch.rand(n, 2, generator=generator) * 80 + 5
    return InstanceData(
        bboxes=torch.cat([corner, corner + size], 1),
        labels=torch.randint(5, (n,), generator=generator),
        scores=torch.rand(n, generator=generator),
    )


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)))
def test_order_does_not_matter(order):
    a = detections(12)
    assert compare_detections(a, a[torch.tensor(order)]) == (0, 0, 0.0, 0.0)


def test_differences_are_found():
    a, b = detections(5), detections(5)
    b.scores[2] += 0.01
    b.bboxes[3, 1] += 0.5
    b.labels[1] = 7
    difference = compare_detections(a, b)
    assert difference.num_unmatched == 0 and difference.num_labels == 1
    assert abs(difference.score - 0.01) < 1e-6 and abs(difference.box - 0.5) < 1e-4


def test_equal_boxes_are_paired_by_label():
    a = detections(4)
    a.bboxes[:] = a.bboxes[0]
    a.labels = torch.arange(4)
    assert compare_detections(a, a[torch.tensor([3, 2, 1, 0])]) == (0, 0, 0.0, 0.0)


def test_what_has_no_partner():
    a, b = detections(5), detections(5)
    b.bboxes[4] += 1000
    assert compare_detections(a, b).num_unmatched == 2
    assert compare_detections(a, b[:0]).num_unmatched == 5


def test_nothing_is_the_partner_of_two():
    once, twice = detections(3), detections(3)[torch.tensor([0, 1, 2, 2])]
    assert compare_detections(twice, once) == compare_detections(once, twice) == (1, 0, 0.0, 0.0)
