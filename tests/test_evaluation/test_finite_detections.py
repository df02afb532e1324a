"""Detections that are not numbers do not count for AP, wherever it is computed."""

import contextlib
import io
import json
import logging

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_vanilla.comparison.accuracy import Evaluation
from mmdet_vanilla.comparison.dataset import Split
from mmdet_vanilla.evaluation import drop_not_finite

NAN = float('nan')


def truth(images=4):
    content = dict(categories=[dict(id=1, name='a')], images=[], annotations=[])
    for i in range(1, images + 1):
        content['images'].append(dict(id=i, file_name=f'{i}.png', height=100, width=100))
        box = dict(bbox=[10.0 * i, 10, 20, 20], area=400, iscrowd=0)
        content['annotations'].append(dict(id=i, image_id=i, category_id=1, **box))
    return content


def found(image, box, score=0.9):
    return dict(image_id=image, category_id=1, bbox=list(map(float, box)), score=score)


GOOD = [found(1, [10, 10, 20, 20]), found(2, [20, 10, 20, 18], 0.8), found(3, [70, 70, 9, 9], 0.7)]
BAD = [
    found(1, [NAN, 10, 20, 20]),
    found(3, [30, 10, float('inf'), 20]),
    found(4, [NAN] * 4),
    found(4, [40, 10, 20, 20], NAN),
]


@pytest.fixture
def warnings():
    """What the logger warns of."""
    messages = []

    class Keep(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_pycocotools_takes_nan_for_a_match():
    """The reason for all this."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth()
        coco.createIndex()
        everywhere = [found(i, [NAN] * 4) for i in range(1, 5)]
        evaluation = COCOeval(coco, COCO.loadRes.__wrapped__(coco, everywhere), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] > 0.3


def test_they_are_counted_and_named(warnings):
    assert drop_not_finite([*GOOD, *BAD]) == GOOD
    [warning] = warnings
    assert '4 of 7 detections are NaN or infinite' in warning
    assert '4 (2), 1 (1), 3 (1)' in warning
    assert drop_not_finite(GOOD) == GOOD and len(warnings) == 1


@pytest.mark.parametrize('bad', [BAD, BAD[:1]])
def test_a_comparison_leaves_them_out(bad, warnings):
    split = Split('test', None, None, truth())
    good = Evaluation(split, [dict(entry) for entry in GOOD])
    mixed = Evaluation(split, [dict(entry) for entry in [*GOOD, *bad]])
    assert mixed.stats == good.stats and 0 < good.stats['AP'] < 1
    assert len(warnings) == 1
    nothing = Evaluation(split, [dict(entry) for entry in bad])
    assert nothing.stats['AP'] == 0 and nothing.per_class == {'a': 0.0}


def evaluate(path, detections):
    """AP by mmdet's metric, as in training, testing and the check of an export."""
    evaluator = Evaluator([CocoMetric(ann_file=str(path), metric='bbox')])
    evaluator.dataset_meta = dict(classes=('a',))
    for image in range(1, 5):
        mine = [entry for entry in detections if entry['image_id'] == image]
        boxes = torch.tensor([entry['bbox'] for entry in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = dict(
            bboxes=boxes,
            scores=torch.tensor([entry['score'] for entry in mine]),
            labels=torch.zeros(len(mine), dtype=torch.long),
        )
        sample = dict(pred_instances=instances, img_id=image, ori_shape=(100, 100))
        evaluator.process([sample])
    return evaluator.evaluate(4)['coco/bbox_mAP']


def test_the_metric_of_mmdet_leaves_them_out(tmp_path, warnings):
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth()))
    good = evaluate(path, GOOD)
    assert 0 < good < 1
    assert evaluate(path, [*GOOD, *BAD]) == good
    assert evaluate(path, BAD) == 0
    assert sum('NaN or infinite' in warning for warning in warnings) == 2


def test_arrays_of_results_are_taken_too():
    rows = np.array([[1, 10, 10, 20, 20, 0.9, 1], [2, NAN, 10, 20, 20, 0.9, 1]])
    coco = COCO()
    coco.dataset = truth()
    coco.createIndex()
    assert [entry['image_id'] for entry in coco.loadRes(rows).dataset['annotations']] == [1]
