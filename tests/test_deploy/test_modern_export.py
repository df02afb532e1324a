"""What else of PyTorch takes the fused detector whole: ``torch.compile``, ``torch.export``."""

import importlib.util

import onnx
import pytest
import torch
from deploy_helpers import tiny_config
from helpers import stand_in_weights
from mmdet.registry import MODELS
from torch import nn

from mmdet_vanilla.deploy import exporter
from mmdet_vanilla.deploy.runtimes import load_onnxruntime
from mmdet_vanilla.deploy.verify import tolerance_of, verify


def fused_detector():
    model = stand_in_weights(MODELS.build(tiny_config().model)).eval()
    return exporter.fuse(model)


class Detector(nn.Module):
    """From images to detections, as :mod:`torch.export` wants it: tensors in, tensors out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        size = tuple(images.shape[-2:])
        metas = [dict(img_shape=size, batch_input_shape=size)] * len(images)
        head = self.model.bbox_head
        outputs = head(self.model.extract_feat(images))
        results = head.predict_by_feat(*outputs, metas, rescale=False)
        boxes = [torch.cat([r.bboxes, r.scores[:, None]], 1) for r in results]
        return torch.stack(boxes), torch.stack([r.labels for r in results])


@pytest.mark.slow
def test_forward_compiles_without_a_graph_break():
    model = fused_detector()
    images = torch.randn(2, 3, 96, 128)
    compiled = torch.compile(model.forward, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('onnxscript'), reason='needs onnxscript')
def test_dynamo_exports_standard_operators(tmp_path):
    model = fused_detector()
    images = torch.randn(2, 3, 96, 128)
    path = tmp_path / 'dynamo.onnx'
    with torch.no_grad():
        torch.onnx.export(
            Detector(model).eval(),
            (images,),
            path,
            dynamo=True,
            opset_version=18,
            input_names=['input'],
            output_names=['dets', 'labels'],
            verbose=False,
        )
    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} <= {'', 'ai.onnx'}
    operators = {node.op_type for node in graph.node}
    assert {'GridSample', 'LayerNormalization'} <= operators
    assert not {'If', 'Loop'} & operators
    result = verify(model, load_onnxruntime(path, 2), [images], tolerance_of(model, 'fp32'))
    assert result.passed, result
