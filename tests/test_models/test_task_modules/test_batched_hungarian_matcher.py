import pytest
import torch
from mmdet.models.task_modules import HungarianAssigner
from mmengine.structures import InstanceData

from mmdet_vanilla.models import BatchedHungarianMatcher
from mmdet_vanilla.models.layers.denoising import box_cxcywh_to_xyxy


def predictions(layers, images, queries, classes):
    logits = torch.randn(layers, images, queries, classes)
    boxes = torch.rand(layers, images, queries, 4) * 0.4 + 0.1
    return logits, boxes


def test_equals_mmdet():
    logits, boxes = predictions(3, 2, 20, 6)
    labels = [torch.randint(6, (5,)), torch.randint(6, (9,))]
    gt_boxes = [torch.rand(5, 4) * 0.4 + 0.1, torch.rand(9, 4) * 0.4 + 0.1]
    query, target = BatchedHungarianMatcher()(logits, boxes, labels, gt_boxes)
    ours = set(zip(query.tolist(), target.tolist()))

    assigner = HungarianAssigner(
        [
            dict(type='FocalLossCost', weight=2.0, eps=1e-8),
            dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
            dict(type='IoUCost', iou_mode='giou', weight=2.0),
        ]
    )
    theirs, first = set(), [0, 5]
    for layer in range(3):
        for image in range(2):
            result = assigner.assign(
                InstanceData(
                    scores=logits[layer, image], bboxes=box_cxcywh_to_xyxy(boxes[layer, image])
                ),
                InstanceData(labels=labels[image], bboxes=box_cxcywh_to_xyxy(gt_boxes[image])),
                dict(img_shape=(1, 1)),
            )
            for q, g in enumerate(result.gt_inds.tolist()):
                if g > 0:
                    theirs.add(((layer * 2 + image) * 20 + q, first[image] + g - 1))
    assert ours == theirs


def test_empty_images_and_more_objects_than_queries():
    logits, boxes = predictions(2, 3, 4, 2)
    labels = [torch.zeros(0).long(), torch.randint(2, (7,)), torch.randint(2, (1,))]
    gt_boxes = [torch.rand(len(x), 4) * 0.5 + 0.1 for x in labels]
    query, target = BatchedHungarianMatcher()(logits, boxes, labels, gt_boxes)
    image = query // 4 % 3
    assert (image == 0).sum() == 0
    assert (image == 1).sum() == 2 * 4 and (image == 2).sum() == 2
    assert target[image == 2].tolist() == [7, 7]
    query, target = BatchedHungarianMatcher()(logits[:, :1], boxes[:, :1], labels[:1], gt_boxes[:1])
    assert len(query) == len(target) == 0


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_predictions_that_are_not_finite_come_first(value):
    logits, boxes = predictions(2, 1, 4, 2)
    boxes[1, 0, 2] = value
    query, target = BatchedHungarianMatcher()(
        logits, boxes, [torch.tensor([0])], [torch.rand(1, 4)]
    )
    assert query[1] == 4 + 2 and target.tolist() == [0, 0]
