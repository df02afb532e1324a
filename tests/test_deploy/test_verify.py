import numpy as np
import pytest
import torch
from helpers import TINY_RTDETR, stand_in_weights
from mmdet.registry import MODELS

from mmdet_vanilla.deploy import DeployError
from mmdet_vanilla.deploy.runtimes import LOADERS, require_runtime
from mmdet_vanilla.deploy.ship import is_passed
from mmdet_vanilla.deploy.verify import (
    DISCRETE,
    TOLERANCES,
    reference_detections,
    tolerance_of,
    verify,
)

IMAGES = torch.linspace(-2, 2, 2 * 3 * 64 * 96).reshape(2, 3, 64, 96).sin()


@pytest.fixture(scope='module')
def model():
    return stand_in_weights(MODELS.build(TINY_RTDETR)).eval()


def detector(model, change=lambda dets, labels: (dets, labels)):
    def detect(images):
        found = reference_detections(model, torch.from_numpy(images))
        dets = torch.stack([torch.cat([f.bboxes, f.scores[:, None]], 1) for f in found])
        return change(dets.numpy().copy(), torch.stack([f.labels for f in found]).numpy().copy())

    return detect


def moved(by):
    def change(dets, labels):
        dets[1, 3, 0] += by
        return dets, labels

    return change


def scored(by):
    def change(dets, labels):
        dets[0, 0, 4] += by
        return dets, labels

    return change


def lost(dets, labels):
    dets[0, 0, :4] += 1000
    return dets, labels


def relabelled(dets, labels):
    labels[0] = (labels[0] + 1) % 4
    return dets, labels


def of_another_class(dets, labels):
    labels[0, 0] = 9  # all else is as it was
    return dets, labels


def shuffled(dets, labels):
    order = np.random.default_rng(0).permutation(dets.shape[1])
    return dets[:, order], labels[:, order]


def test_a_model_equals_itself_in_any_order(model):
    for change in (lambda *outputs: outputs, shuffled, moved(0.05), scored(5e-5)):
        result = verify(model, detector(model, change), [IMAGES], TOLERANCES['fp32'])
        assert result.passed and result.num_images == 2 and result.num_detections == 80


@pytest.mark.parametrize('change', [moved(0.2), scored(2e-4), lost, relabelled, of_another_class])
def test_finds_every_difference(model, change):
    assert not verify(model, detector(model, change), [IMAGES], TOLERANCES['fp32']).passed


def test_counts_every_outlier_once(model):
    def change(dets, labels):
        return moved(0.2)(*scored(2e-4)(dets, labels))

    result = verify(model, detector(model, change), [IMAGES], TOLERANCES['fp32'])
    assert result.num_outliers == 2 and result.num_unmatched == result.num_labels == 0
    few = TOLERANCES['fp32']._replace(outliers=2 / 80)
    assert verify(model, detector(model, change), [IMAGES], few).passed
    few = TOLERANCES['fp32']._replace(outliers=1 / 80)
    assert not verify(model, detector(model, change), [IMAGES], few).passed


@pytest.mark.parametrize('precision', TOLERANCES)
@pytest.mark.parametrize('factor, passed', [(0.9, True), (1.1, False)])
def test_each_precision_has_a_limit_of_its_own(model, precision, factor, passed):
    tolerance = TOLERANCES[precision]

    def change(dets, labels):
        dets[..., 4] += factor * tolerance.score
        return dets, labels

    result = verify(model, detector(model, change), [IMAGES], tolerance)
    assert result.passed == passed and result.num_detections > 0
    assert result.num_outliers == (0 if passed else result.num_detections)


def test_tolerances_are_as_tight_as_stated(model):
    assert [t.ap for t in TOLERANCES.values()] == [0.05, 0.3, 0.3, 1.5] and DISCRETE.ap == 0.05
    assert [t.score for t in TOLERANCES.values()] == [1e-4, 0.05, 0.1, 0.3]
    assert [t.box for t in TOLERANCES.values()] == [0.1, 3.0, 10.0, 20.0]
    assert [t.outliers for t in TOLERANCES.values()] == [0.0, 0.02, 0.05, 0.1]
    assert [t.least_score for t in TOLERANCES.values()] == [0.0, 0.3, 0.3, 0.4]
    assert tolerance_of(model, 'fp32') == TOLERANCES['fp32']
    head = dict(TINY_RTDETR['bbox_head'], sampling_method='discrete')
    discrete = MODELS.build({**TINY_RTDETR, 'bbox_head': head})
    assert tolerance_of(discrete, 'fp32') == DISCRETE
    assert tolerance_of(discrete, 'int8') == TOLERANCES['int8']


def test_the_verdict_takes_every_check_into_account(model):
    same = verify(model, detector(model), [IMAGES], TOLERANCES['fp32'])
    other = verify(model, detector(model, lost), [IMAGES], TOLERANCES['fp32'])
    custom = ['mmdeploy::grid_sampler']
    assert is_passed(same, [], 'fp32') and not is_passed(other, [], 'fp32')
    assert not is_passed(same, custom, 'fp32') and is_passed(same, custom, 'int8')
    for precision, least in (('fp32', 0.05), ('fp16', 0.3), ('int8', 1.5)):
        result = same._replace(tolerance=TOLERANCES[precision])
        for by in (least, -least):
            ap = dict(pytorch=40.0, exported=40.0 + by)
            assert is_passed(result, [], precision, ap)
            ap['exported'] += by / 10
            assert not is_passed(result, [], precision, ap)


def test_no_detection_proves_nothing(model):
    tolerance = TOLERANCES['fp16']._replace(least_score=2.0)
    assert not verify(model, detector(model), [IMAGES], tolerance).passed


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda dets, labels: (dets[:1], labels[:1]), 'dets have shape'),
        (lambda dets, labels: (dets, labels[:, :3]), 'labels have shape'),
        (moved(float('nan')), 'not finite'),
    ],
)
def test_refuses_outputs_of_another_kind(model, change, message):
    with pytest.raises(DeployError, match=message):
        verify(model, detector(model, change), [IMAGES], TOLERANCES['fp32'])


def test_names_what_is_not_installed(monkeypatch):
    import importlib

    def import_module(name):
        raise ImportError(f'No module named {name!r}')

    monkeypatch.setattr(importlib, 'import_module', import_module)
    with pytest.raises(DeployError, match='openvino is not installed .*: pip install openvino'):
        require_runtime('openvino')
    with pytest.raises(DeployError, match="runtime 'pplnn': expected one of"):
        require_runtime('pplnn')


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_refuses_files_that_are_no_models(tmp_path, runtime):
    pytest.importorskip(runtime)
    (tmp_path / 'a.onnx').write_text('nothing')
    with pytest.raises(DeployError, match=r'cannot load .*a\.onnx'):
        LOADERS[runtime](tmp_path / 'a.onnx')
