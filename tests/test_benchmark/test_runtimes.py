import numpy as np
import pytest
import torch

for _name in ('mmdeploy', 'onnx', 'onnxruntime', 'openvino'):
    pytest.importorskip(_name)
runtimes = pytest.importorskip('mmdet_vanilla.benchmark.runtimes')


@pytest.mark.slow
def test_runtimes_time_the_same_backbone(tmp_path):
    functions = runtimes.backbone_functions('5', 64, tmp_path)
    outputs = {name: run() for name, run in functions.items()}
    expected = outputs.pop('pytorch')
    assert set(outputs) == {'pytorch, channels-last', 'onnxruntime', 'openvino'}
    for name, features in outputs.items():
        features = list(features.values()) if name == 'openvino' else features
        for actual, wanted in zip(features, expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4, err_msg=name)


def test_both_products_are_the_same():
    products, gflop = runtimes.sgemm_functions(64)
    torch.testing.assert_close(products['conv']().reshape(64, 64), products['mm']())
    assert gflop == 2 * 64**3 / 1e9
