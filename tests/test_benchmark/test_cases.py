import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from helpers import CONFIGS

from mmdet_vanilla.benchmark import cases, measure
from mmdet_vanilla.benchmark.machine import measure_machine, sgemm_functions
from mmdet_vanilla.benchmark.report import results_table
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.timing import peak_memory

R18 = str(CONFIGS / 'rtdetr_r18vd_coco.py')
NANO = str(CONFIGS / 'rtdetr_vanillanet_nano_coco.py')
needs_transformers = pytest.mark.skipif(
    not importlib.util.find_spec('transformers'), reason='needs requirements/peers.txt'
)


@needs_transformers
def test_the_peer_computes_the_same():
    case = cases.Inference(R18, size=160)
    ours, images = case.network(), case.images()
    theirs = dataclasses.replace(case, form=cases.TRANSFORMERS).build()().logits
    with torch.inference_mode():
        torch.testing.assert_close(ours.model(images)[0][-1], theirs, atol=1e-3, rtol=0)


@needs_transformers
def test_training_steps_start_from_the_same_loss():
    # Denoising is drawn at random; without objects there is none, and one loss remains.
    case = cases.TrainingStep(R18, size=160, batch=1, objects=0)
    ours, plain, peer = (
        float(dataclasses.replace(case, form=form).build()())
        for form in ('ours', 'ours, NCHW', cases.TRANSFORMERS)
    )
    assert ours == pytest.approx(plain, rel=1e-3)
    assert ours == pytest.approx(peer, rel=0.02)


@pytest.mark.parametrize('runtime', ['fused', 'fused, NCHW', 'fused, bfloat16'])
def test_forms_detect_alike(runtime):
    expected, found = (
        cases.Inference(NANO, name, batch=2, size=64).build()()[0]
        for name in ('training form', runtime)
    )
    assert found.shape == expected.shape == (2, 300, 5)
    tolerance = 0.05 if 'bfloat16' in runtime else 1e-3
    torch.testing.assert_close(found[..., 4], expected[..., 4], atol=tolerance, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize('backbone_only', [False, True])
def test_runtimes_time_the_same_network(backbone_only):
    for name in ('mmdeploy', 'onnx', 'onnxruntime', 'openvino'):
        pytest.importorskip(name)
    functions = {
        name: cases.Inference(NANO, name, size=64, backbone_only=backbone_only).build()
        for name in ('fused', 'onnxruntime', 'openvino')
    }
    expected = functions.pop('fused')()
    for name, run in functions.items():
        for actual, wanted in zip(run(), expected, strict=True):
            if backbone_only:
                np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4, err_msg=name)
            else:
                assert actual.shape == tuple(wanted.shape), name


def test_names_that_are_unknown():
    with pytest.raises(UserError, match="form 'tensor': expected one of"):
        cases.Inference(NANO, 'tensor').build()
    with pytest.raises(UserError, match='has no peer in transformers'):
        cases.TrainingStep(NANO, cases.TRANSFORMERS).build()


def test_both_products_are_the_same():
    products, gflop = sgemm_functions(64)
    torch.testing.assert_close(products['conv']().reshape(64, 64), products['mm']())
    assert gflop == 2 * 64**3 / 1e9


def test_table():
    names = ('training form', 'fused')
    few = {name: cases.Inference(NANO, name, size=64, backbone_only=True) for name in names}
    results = measure.measure(few, rounds=2, warmup=1)
    results[1].gflop = measure.count_gflop(few['fused'])
    table = results_table(results, measure_machine(64, 1, 1)).splitlines()
    assert len(table) == 4 and '| 1.000 |' in table[2] and table[3].startswith('| fused |')
    assert 'of conv' in table[0] and 'peak MB' not in table[0]


def _allocate():
    return lambda: bytearray(b'x') * (64 << 20)


def test_peak_memory_does_not_begin_with_the_parents():
    held = bytearray(b'x') * (2000 << 20)
    before, after = peak_memory(_allocate)
    assert after < len(held) and 60 << 20 < after - before < 90 << 20
