"""What else of PyTorch takes the fused detector whole: ``torch.compile``, ``torch.export``."""

import onnx
import pytest
import torch
from deploy_helpers import deploy_config, tiny_checkpoint, tiny_config

from mmdet_vanilla.deploy import DeployError, exporter
from mmdet_vanilla.deploy.runtimes import load_onnxruntime, load_openvino
from mmdet_vanilla.deploy.tensor_detector import TensorDetector
from mmdet_vanilla.deploy.verify import tolerance_of, verify

HEADS = [{}, dict(sampling_method='discrete')]


@pytest.fixture(params=HEADS, ids=['bilinear', 'discrete'])
def model(request, tmp_path):
    cfg = tiny_config(bbox_head=request.param)
    return exporter.load_model(cfg, tiny_checkpoint(cfg, tmp_path / 'model.pth'))[0]


@pytest.mark.slow
def test_compiles_without_a_graph_break(model):
    detector = TensorDetector(exporter.fuse(model))
    # Tracing is what may break; what a back end makes of the graph is PyTorch's affair.
    compiled = torch.compile(detector, fullgraph=True, backend='aot_eager')

    def detect(images):
        with torch.no_grad():
            return tuple(output.numpy() for output in compiled(torch.from_numpy(images)))

    batches = [torch.randn(2, 3, 96, 128), torch.randn(1, 3, 64, 96)]
    assert verify(model, detect, batches, tolerance_of(model, 'fp32')).passed


@pytest.mark.slow
def test_forward_of_the_plain_detector_compiles_too(model):
    images = torch.randn(2, 3, 96, 128)
    compiled = torch.compile(model.forward, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.slow
@pytest.mark.skipif(not exporter.BY_TRACING, reason='this PyTorch has one exporter only')
def test_dynamo_exports_one_dynamic_file_of_standard_operators(tmp_path, model):
    pytest.importorskip('onnxscript')
    cfg, path = deploy_config('onnxruntime_dynamo'), tmp_path / 'end2end.onnx'
    exporter.check_exportable(model, cfg)
    exporter.export_onnx(exporter.fuse(model), torch.randn(1, 3, 96, 128), cfg, path)
    assert [file.name for file in tmp_path.glob('*.onnx*')] == ['end2end.onnx']
    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} <= {'', 'ai.onnx'}
    operators = {node.op_type for node in graph.node}
    assert 'LayerNormalization' in operators and not {'If', 'Loop'} & operators
    batches = [torch.randn(n, 3, h, w) for n, h, w in [(1, 96, 128), (2, 64, 160), (3, 160, 64)]]
    for load in (load_onnxruntime, load_openvino):
        assert verify(model, load(path), batches, tolerance_of(model, 'fp32')).passed


def test_dynamo_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(exporter, 'BY_TRACING', {})
    with pytest.raises(DeployError, match='onnx_config.dynamo needs torch 2.5'):
        exporter.check_exportable(torch.nn.Identity(), deploy_config('onnxruntime_dynamo'))
