"""What was learnt of a class goes with its name, in mmdet's heads as well as in ours."""

import pytest
import torch
from helpers import TINY_RTDETR, stand_in_weights
from mmdet.registry import MODELS

from mmdet_vanilla.utils.classes import transfer_class_rows

OLD = ('a', 'b', 'c', 'd', 'e')
FEATURES = [torch.rand(2, 8, side, side) for side in (8, 4, 2)]


def moved(cfg, new_classes, old_classes=OLD):
    """Heads for the old classes and for the new ones, with what was learnt of the old."""
    old, new = (
        stand_in_weights(MODELS.build(dict(cfg, num_classes=len(classes))), salt)
        for salt, classes in enumerate((old_classes, new_classes))
    )
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    state, names, known = transfer_class_rows(old.state_dict(), fresh, old_classes, new_classes)
    new.load_state_dict({k: v for k, v in state.items() if v.shape == fresh[k].shape}, strict=False)
    return old.eval(), new.eval(), names, known


def by_class(output, num_classes):
    """(N, A * C, H, W) as mmdet reads it, (C, ...)."""
    n, _, h, w = output.shape
    return output.permute(0, 2, 3, 1).reshape(n, h, w, -1, num_classes).movedim(-1, 0)


ANCHORS = dict(type='AnchorGenerator', ratios=[0.5, 1.0, 2.0], scales=[4], strides=[8, 16, 32])
DENSE = [
    dict(type='RetinaHead', in_channels=8, feat_channels=8, anchor_generator=ANCHORS),
    dict(type='FCOSHead', in_channels=8, feat_channels=8, strides=[8, 16, 32], norm_cfg=None),
    dict(type='YOLOXHead', in_channels=8, feat_channels=8, strides=(8, 16, 32)),
]


@pytest.mark.parametrize('cfg', DENSE, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('new', [('x', 'd', 'a'), ('e', 'x', 'y', 'z', 'a', 'b', 'w')], ids=len)
def test_dense_heads(cfg, new):
    old_head, new_head, names, known = moved(cfg, new)
    assert names and known == [name for name in new if name in OLD]
    with torch.no_grad():
        outputs = [head(FEATURES)[0] for head in (old_head, new_head)]
    for before, after in zip(*outputs):
        before, after = by_class(before, len(OLD)), by_class(after, len(new))
        for number, name in enumerate(new):
            if name in OLD:
                torch.testing.assert_close(after[number], before[OLD.index(name)])
            else:
                assert all((after[number] - other).abs().max() > 1e-3 for other in before)


def test_a_box_head_with_background_and_boxes_for_each_class():
    cfg = dict(type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=8, roi_feat_size=2)
    new = ('x', 'd', 'a')
    old_head, new_head, names, _ = moved(cfg, new)
    assert {name.split('.')[0] for name in names} == {'fc_cls', 'fc_reg'}
    with torch.no_grad():
        (old_scores, old_boxes), (scores, boxes) = (
            head(torch.ones(3, 8, 2, 2)) for head in (old_head, new_head)
        )
    torch.testing.assert_close(scores[:, [1, 2, 3]], old_scores[:, [3, 0, 5]])
    old_boxes, boxes = old_boxes.view(3, 5, 4), boxes.view(3, 3, 4)
    torch.testing.assert_close(boxes[:, [1, 2]], old_boxes[:, [3, 0]])


def test_background_of_each_anchor():
    cfg = dict(
        type='SSDHead',
        in_channels=(8, 8, 8),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            basesize_ratio_range=(0.2, 0.9),
            ratios=([2], [2, 3], [2]),
            strides=[8, 16, 32],
        ),
    )
    new = ('x', 'd', 'a')
    old_head, new_head, _, _ = moved(cfg, new)
    with torch.no_grad():
        outputs = [head(FEATURES)[0] for head in (old_head, new_head)]
    for before, after in zip(*outputs):
        torch.testing.assert_close(by_class(after, 4)[[1, 2, 3]], by_class(before, 6)[[3, 0, 5]])


def test_layers_that_mix_classes_with_other_things_start_new():
    cfg = dict(type='YOLOV3Head', in_channels=[8, 8, 8], out_channels=[8, 8, 8])
    _, _, names, _ = moved(cfg, ('x', 'd', 'a'))
    assert names == []


def rtdetr(num_classes, salt):
    head = dict(TINY_RTDETR['bbox_head'], num_classes=num_classes)
    return stand_in_weights(MODELS.build(dict(TINY_RTDETR, bbox_head=head)), salt).state_dict()


@pytest.mark.parametrize('new', [('x', 'd', 'a'), ('b', 'a', 'c', 'd', 'x')], ids=len)
def test_rtdetr(new):
    """With as many classes as before, shapes tell nothing."""
    before, fresh = rtdetr(len(OLD), 0), rtdetr(len(new), 1)
    state, names, known = transfer_class_rows(before, fresh, OLD, new)
    layers = {'enc_score_head', 'dec_score_head', 'denoising_class_embed'}
    assert {name.split('.')[1] for name in names} == layers
    assert known == [name for name in new if name in OLD]
    for name in names:
        assert state[name].shape == fresh[name].shape
        for number, label in enumerate(new):
            expected = before[name][OLD.index(label)] if label in OLD else fresh[name][number]
            assert torch.equal(state[name][number], expected)
    assert all(torch.equal(state[name], before[name]) for name in set(state) - set(names))
