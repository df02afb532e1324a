"""Loading, running and timing detectors through one interface."""

import time

import cv2
import pytest
import torch
from comparison_helpers import RETINANET, TINY_RTDETR, export, write_checkpoint, write_config
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmdet_vanilla.comparison import ComparisonError, parse_item
from mmdet_vanilla.comparison.detectors import load_detector
from mmdet_vanilla.comparison.latency import Timing, summarize, time_rounds
from mmdet_vanilla.comparison.preprocessing import force_size, own_pipeline, sample_image
from mmdet_vanilla.models import RTDETR, RTDETRHead
from mmdet_vanilla.utils.weights import WeightsError

SLEEP = 0.03


@MODELS.register_module()
class SleepyRTDETR(RTDETR):
    """Takes longer in the network."""

    def extract_feat(self, batch_inputs):
        time.sleep(SLEEP)
        return super().extract_feat(batch_inputs)


@MODELS.register_module()
class SleepyHead(RTDETRHead):
    """Takes longer in its postprocessing."""

    def predict_by_feat(self, *args, **kwargs):
        time.sleep(SLEEP)
        return super().predict_by_feat(*args, **kwargs)


@pytest.fixture
def image(tmp_path):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, sample_image(120, 160))
    return path


def test_a_sleep_shows_where_it_was_added(tmp_path, image):
    sleepy_head = dict(TINY_RTDETR, bbox_head=dict(TINY_RTDETR['bbox_head'], type='SleepyHead'))
    models = dict(own=TINY_RTDETR, network=dict(TINY_RTDETR, type='SleepyRTDETR'), post=sleepy_head)
    detectors = {
        name: load_detector(parse_item(str(write_config(tmp_path, name, model))))
        for name, model in models.items()
    }
    calls = []
    timings = {name: {} for name in detectors}
    time_rounds(
        detectors, timings, [image], 2, 3, 1, on_round=lambda name, error: calls.append(name)
    )
    rounds = [calls[:3], calls[3:6], calls[6:]]
    assert all(sorted(names) == ['network', 'own', 'post'] for names in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]  # nobody always comes after another
    for name, part in (('network', 'network'), ('post', 'post')):
        assert getattr(summarize(timings[name][2]), part) >= 1e3 * SLEEP
    assert min(t.network for t in timings['network'][2]) >= SLEEP
    assert min(t.post for t in timings['post'][2]) >= SLEEP
    for timing in timings['post'][2]:
        assert timing.total == pytest.approx(timing.pre + timing.network + timing.post)
    # What is there is not measured again.
    time_rounds(detectors, timings, [image], 2, 3, 1, on_round=lambda *args: calls.append('again'))
    assert 'again' not in calls


def test_one_that_fails_does_not_stop_the_others(tmp_path, image, monkeypatch):
    detectors = {
        name: load_detector(parse_item(str(write_config(tmp_path, name, TINY_RTDETR))))
        for name in ('bad', 'good')
    }

    def fail(data):
        raise RuntimeError('out of memory')

    detectors['bad'].predict = fail
    timings, errors = {name: {} for name in detectors}, {}

    def on_round(name, error):
        if error:
            errors[name] = str(error)

    time_rounds(detectors, timings, [image], 1, 2, 0, on_round=on_round)
    assert errors == {'bad': 'out of memory'} and len(timings['good'][1]) == 2


def test_summary():
    summary = summarize([Timing(0.001, i / 10, None, 0.001 + i / 10) for i in range(1, 12)])
    assert (summary.median, summary.p10) == pytest.approx((601.0, 201.0))
    assert summary.p95 == pytest.approx(1051.0) and summary.network == pytest.approx(600.0)
    assert summary.post is None and summary.pre == pytest.approx(1.0)


def test_detections_are_in_pixels_of_the_file(tmp_path, image):
    weights = write_checkpoint(tmp_path / 'w.pth', TINY_RTDETR)
    config = write_config(tmp_path, 'x', TINY_RTDETR)
    found = {}
    for deploy in ('', '@deploy'):
        detector = load_detector(parse_item(f'{config}::{weights}{deploy}'))
        assert detector.classes == ('a', 'b', 'c', 'd') and detector.num_classes == 4
        [found[deploy]] = detector.predict(detector.preprocess([detector.load(image)]))
        boxes = found[deploy].bboxes
        assert len(boxes) and (boxes >= 0).all() and boxes[:, 2].max() <= 160
        assert boxes[:, 3].max() <= 120 and boxes[:, 2].max() > 96  # the network's input
    assert torch.allclose(found[''].scores, found['@deploy'].scores, atol=1e-4)
    assert torch.allclose(found[''].bboxes, found['@deploy'].bboxes, atol=0.05)


def test_random_weights_are_not_logged(tmp_path, capsys):
    config = write_config(tmp_path, 'x', RETINANET)
    # Another logger than mmengine's own is in use, as after loading mmdeploy.
    MMLogger.get_instance('of another package')
    try:
        load_detector(parse_item(str(config)))
    finally:
        MMLogger._instance_dict.pop('of another package')
    assert 'NormalInit' not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    'runtime, suffix',
    [('onnxruntime', 'onnx'), ('openvino', 'xml')],
)
def test_an_exported_file_detects_the_same(tmp_path, image, runtime, suffix):
    for name in ('mmdeploy', runtime):
        pytest.importorskip(name)
    weights = write_checkpoint(tmp_path / 'w.pth', TINY_RTDETR)
    config = write_config(tmp_path, 'x', TINY_RTDETR)
    file = export(config, weights, tmp_path / 'out', image, runtime, suffix)
    found = []
    for item in (f'{config}::{weights}', str(file)):
        detector = load_detector(parse_item(item))
        assert detector.classes == ('a', 'b', 'c', 'd')
        found += detector.predict(detector.preprocess([detector.load(image)]))
    own, exported = (instances.to_dict() for instances in found)
    assert len(own['scores']) == len(exported['scores']) > 0
    assert torch.allclose(own['scores'], exported['scores'], atol=1e-4)
    assert torch.allclose(own['bboxes'], exported['bboxes'], atol=0.05)
    assert own['labels'].tolist() == exported['labels'].tolist()


@pytest.mark.parametrize('keep_ratio', [False, True])
def test_forced_size(tmp_path, image, keep_ratio):
    config = write_config(tmp_path, 'x', RETINANET, size=(200, 100), keep_ratio=keep_ratio)
    detector = load_detector(parse_item(str(config)), img_scale=64)
    data = detector.preprocess([detector.load(image)])
    assert data['inputs'].shape == (1, 3, 64, 64)
    scale = data['data_samples'][0].scale_factor
    assert scale == pytest.approx((0.4, 0.4) if keep_ratio else (0.4, 64 / 120))


def test_forced_size_needs_one_resize():
    with pytest.raises(ComparisonError, match='one Resize, this one has 0'):
        force_size([dict(type='LoadImageFromFile')], 64, [0, 0, 0])


def test_a_pipeline_has_to_read_files():
    with pytest.raises(ComparisonError, match='begins with LoadImageFromFile'):
        own_pipeline(Config(dict(test_pipeline=[dict(type='Resize')])))


def test_weights_of_another_architecture(tmp_path):
    weights = write_checkpoint(tmp_path / 'w.pth', RETINANET)
    config = write_config(tmp_path, 'x', TINY_RTDETR)
    with pytest.raises(WeightsError, match='does not belong to this RTDETR'):
        load_detector(parse_item(f'{config}::{weights}'))


def test_classes_come_from_the_checkpoint(tmp_path, image):
    model = dict(TINY_RTDETR, bbox_head=dict(TINY_RTDETR['bbox_head'], num_classes=2))
    weights = write_checkpoint(tmp_path / 'w.pth', model, ('Hund', '猫'))
    item = parse_item(f'{write_config(tmp_path, "x", TINY_RTDETR)}::{weights}')
    for detector in (load_detector(item), load_detector(item, weights=False)):
        assert detector.num_classes == 2 == detector.model.bbox_head.num_classes
    detector = load_detector(item)
    assert detector.classes == ('Hund', '猫')
    [found] = detector.predict(detector.preprocess([detector.load(image)]))
    assert set(found.labels.tolist()) <= {0, 1}


def test_unreadable_image(tmp_path):
    detector = load_detector(parse_item(str(write_config(tmp_path, 'x', TINY_RTDETR))))
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    for name in ('broken.jpg', 'missing.jpg'):
        with pytest.raises(OSError, match=f'cannot read the image .*{name}'):
            detector.load(str(tmp_path / name))
