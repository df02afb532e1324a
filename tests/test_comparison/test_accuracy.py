"""Metrics and intervals against pycocotools itself, on random detections."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_vanilla.comparison.accuracy import STATS, Evaluation
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
    assert tuple(evaluation.stats) == STATS
    np.testing.assert_array_equal(values, expected.stats)
    known = [v for v in evaluation.per_class.values() if v is not None]
    assert np.mean(known) == pytest.approx(expected.stats[0], abs=1e-12)
    assert np.mean(evaluation.precision_recall()) == pytest.approx(expected.stats[1], abs=1e-12)


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
