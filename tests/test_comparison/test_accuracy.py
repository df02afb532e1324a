"""Metrics and intervals against pycocotools itself, on random detections."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_vanilla.comparison.accuracy import STATS, Evaluation, to_coco
from mmdet_vanilla.comparison.bootstrap import compare_ap, resample_weights, resampled_ap
from mmdet_vanilla.comparison.dataset import Split


def random_split(rng, images=12, classes=3):
    content = dict(images=[], annotations=[])
    content['categories'] = [dict(id=7 * i + 1, name=f'class {i}') for i in range(classes)]
    for i in range(images):
        content['images'].append(dict(id=i + 5, file_name=f'{i}.jpg', height=200, width=200))
        for _ in range(int(rng.integers(0, 6))):
            x, y, w, h = rng.uniform(0, 100, 4) + np.array([0, 0, 5, 5])
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=i + 5,
                    category_id=7 * int(rng.integers(0, classes)) + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=int(rng.random() < 0.1),
                )
            )
    return Split('test', None, None, content)


def random_detections(rng, split, noise=6.0):
    found = []
    for entry in split.content['annotations']:
        for _ in range(int(rng.integers(0, 3))):
            box = np.array(entry['bbox']) + rng.normal(0, noise, 4)
            found.append(
                dict(
                    image_id=entry['image_id'],
                    category_id=entry['category_id'],
                    bbox=[*box[:2], *np.maximum(box[2:], 1)],
                    score=float(rng.random()),
                )
            )
    for image in split.content['images']:
        box = [*rng.uniform(0, 100, 2), *rng.uniform(5, 80, 2)]
        found.append(dict(image_id=image['id'], category_id=1, bbox=box, score=float(rng.random())))
    return found


def pycocotools(content, detections, tmp_path):
    """Its own way through files."""
    truth, results = tmp_path / 'truth.json', tmp_path / 'results.json'
    truth.write_text(json.dumps(content))
    results.write_text(json.dumps(detections))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        coco_eval = COCOeval(coco, coco.loadRes(str(results)), 'bbox')
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


@pytest.mark.parametrize('seed', range(4))
def test_metrics_equal_pycocotools(seed, tmp_path):
    rng = np.random.default_rng(seed)
    split = random_split(rng)
    found = random_detections(rng, split)
    expected = pycocotools(split.content, found, tmp_path)
    evaluation = Evaluation(split, found)
    values = [-1.0 if v is None else v for v in evaluation.stats.values()]
    names = 'AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large'
    assert tuple(evaluation.stats) == STATS == tuple(names.split())
    np.testing.assert_array_equal(values, expected.stats)
    known = [v for v in evaluation.per_class.values() if v is not None]
    assert np.mean(known) == pytest.approx(expected.stats[0], abs=1e-12)
    assert np.mean(evaluation.precision_recall()) == pytest.approx(expected.stats[1], abs=1e-12)


def test_results_have_sides_instead_of_corners_and_ids_of_categories():
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 20, 40, 60], [1, 2, 3, 5], [0, 0, 1, 1]]),
        scores=torch.tensor([0.5, 0.25, 0.75]),
        labels=torch.tensor([0, 2, 1]),
    )
    assert to_coco(found, 9, {0: 31, 2: 7}) == [
        dict(image_id=9, category_id=31, bbox=[10, 20, 30, 40], score=0.5),
        dict(image_id=9, category_id=7, bbox=[1, 2, 2, 3], score=0.25),
    ]


def test_perfect_detections_have_a_perfect_ap():
    """Of objects of all classes, by the way from a detector to COCO's statistics."""
    split = random_split(np.random.default_rng(2))
    label_of = {category['id']: i for i, category in enumerate(split.content['categories'])}
    results = []
    for image in split.content['images']:
        own = [a for a in split.content['annotations'] if a['image_id'] == image['id']]
        own = [a for a in own if not a['iscrowd']]
        boxes = torch.tensor([a['bbox'] for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = InstanceData(
            bboxes=boxes,
            scores=torch.full((len(own),), 0.5),
            labels=torch.tensor([label_of[a['category_id']] for a in own], dtype=torch.long),
        )
        results += to_coco(found, image['id'], {i: key for key, i in label_of.items()})
    assert Evaluation(split, results).stats['AP'] == pytest.approx(1.0)


def test_resamples_are_drawn_with_replacement():
    weights = resample_weights(50, 400)
    assert weights.shape == (400, 50) and (weights.sum(1) == 50).all()
    # Of n images a share of (1 - 1 / n) ** n is left out.
    assert (weights == 0).mean() == pytest.approx(0.98**50, abs=0.01)
    assert np.abs(weights.mean(0) - 1).max() < 0.2 and (weights.max(1) >= 2).all()
    assert len(np.unique(weights, axis=0)) == 400


def test_an_interval_leaves_out_a_fortieth_at_either_end():
    others = np.zeros(1001)
    spread = np.random.default_rng(0).permutation(1001) / 1000 - 0.02
    found = compare_ap(0.4, 0.1, spread, others)
    assert found.difference == pytest.approx(0.3)
    assert (found.low, found.high) == (pytest.approx(0.005), pytest.approx(0.955))
    assert found.distinguishable
    assert not compare_ap(0.4, 0.1, spread - 0.01, others).distinguishable
    assert not compare_ap(0.1, 0.4, others, spread - 0.01).distinguishable
    below = compare_ap(0.1, 0.4, others, spread)
    assert below.distinguishable and below.high == pytest.approx(-0.005)
    assert not compare_ap(0.4, 0.1, np.full(3, np.nan), np.zeros(3)).distinguishable


def test_nothing_found():
    split = random_split(np.random.default_rng(0))
    evaluation = Evaluation(split, [])
    assert evaluation.stats['AP'] == 0
    weights = resample_weights(12, 3)
    np.testing.assert_array_equal(resampled_ap(evaluation.coco_eval, weights), np.zeros(3))


@pytest.mark.parametrize('seed', range(4))
def test_whole_data_as_a_resample(seed):
    rng = np.random.default_rng(seed)
    split = random_split(rng)
    evaluation = Evaluation(split, random_detections(rng, split))
    [ap] = resampled_ap(evaluation.coco_eval, np.ones((1, 12)))
    assert ap == pytest.approx(evaluation.stats['AP'], abs=1e-12)


def test_resamples_equal_data_with_repeated_images(tmp_path):
    """A resample is a data set in which images occur several times or not at all."""
    rng = np.random.default_rng(3)
    split = random_split(rng)
    found = random_detections(rng, split)
    evaluation = Evaluation(split, found)
    weights = resample_weights(12, 5, seed=1)
    assert (weights.sum(1) == 12).all()
    aps = resampled_ap(evaluation.coco_eval, weights)
    for row, ap in zip(weights.astype(int), aps):
        content = dict(images=[], annotations=[], categories=split.content['categories'])
        detections = []
        for image, count in zip(split.content['images'], row):
            for copy_number in range(count):
                new = 1000 * copy_number + image['id']
                content['images'].append(dict(image, id=new))
                for a in split.content['annotations']:
                    if a['image_id'] == image['id']:
                        number = len(content['annotations']) + 1
                        content['annotations'].append(dict(a, id=number, image_id=new))
                detections += [dict(d, image_id=new) for d in found if d['image_id'] == image['id']]
        assert ap == pytest.approx(pycocotools(content, detections, tmp_path).stats[0], abs=2e-3)


def test_equal_detectors_cannot_be_told_apart_and_a_bad_one_can():
    rng = np.random.default_rng(0)
    split = random_split(rng, images=60)
    good = random_detections(rng, split, noise=1.0)
    bad = [dict(d, bbox=[v + 20 for v in d['bbox']]) for d in good]
    weights = resample_weights(60, 200)
    evaluations = [Evaluation(split, found) for found in (good, copy.deepcopy(good), bad)]
    aps = [resampled_ap(e.coco_eval, weights) for e in evaluations]
    values = [e.stats['AP'] for e in evaluations]
    same = compare_ap(values[0], values[1], aps[0], aps[1])
    assert same.difference == 0 and same.low <= 0 <= same.high and not same.distinguishable
    other = compare_ap(values[0], values[2], aps[0], aps[2])
    assert other.distinguishable and 0 < other.low <= other.difference <= other.high
