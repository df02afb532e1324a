"""One dynamic file of every family at full size, on every runtime, against the PyTorch model."""

import pytest
import torch
from deploy_helpers import deploy_config
from helpers import CONFIGS, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_vanilla.deploy import exporter
from mmdet_vanilla.deploy.runtimes import load_onnxruntime, load_openvino, load_torchscript
from mmdet_vanilla.deploy.verify import tolerance_of, verify

SIZES = [(1, 640, 640), (2, 320, 512), (8, 512, 320), (1, 800, 800)]


def waves(batch, height, width):
    """Images that vary at every scale."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    frequency = torch.arange(1, 3 * batch + 1).reshape(batch, 3, 1, 1) / 40
    return (x * frequency).sin() + (y * frequency * 1.7 + x / 9).cos()


@pytest.mark.slow
@pytest.mark.timeout(900)  # 58 million parameters on twelve images, four times
@pytest.mark.parametrize(
    'name',
    [
        'rtdetr_vanillanet6_coco',
        'rtdetr_vanillanet13_coco',
        'rtdetr_r18vd_coco',
        'rtdetr_r50vd_coco',
        'rtdetrv2_r18vd_coco',
        'rtdetrv2_r18vd_dsp_coco',
    ],
)
def test_equals_the_pytorch_model(tmp_path, name):
    model = stand_in_weights(MODELS.build(Config.fromfile(CONFIGS / f'{name}.py').model)).eval()
    path = tmp_path / 'end2end.onnx'
    example = torch.zeros(1, 3, 640, 640)
    fused = exporter.fuse(model)
    exporter.export_onnx(fused, example, deploy_config('onnxruntime_dynamic'), path)
    exporter.simplify_onnx(path)
    script = tmp_path / 'end2end.pt'
    torchscript = deploy_config('torchscript', (640, 640))
    exporter.export_torchscript(fused, example, torchscript, script)
    batches = [waves(*size) for size in SIZES]
    for load, artefact, images in (
        (load_onnxruntime, path, batches),
        (load_openvino, path, batches),
        (load_torchscript, script, batches[:1]),
    ):
        result = verify(model, load(artefact), images, tolerance_of(model, 'fp32'))
        print(name, load.__name__, f'score {result.score:.2g}', f'box {result.box:.2g}')
        assert result.passed, result
