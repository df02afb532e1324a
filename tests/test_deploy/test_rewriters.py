"""Compared the way mmdeploy compares its own rewriters: eagerly, and through a runtime."""

import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from deploy_helpers import deploy_config
from helpers import TINY_RTDETR
from mmdeploy.apis.onnx import export
from mmdeploy.core import RewriterContext
from mmdeploy.utils import IR
from mmdeploy.utils.test import WrapFunction, WrapModel
from mmdet.registry import MODELS
from torch import nn

from mmdet_vanilla.deploy import DeployError
from mmdet_vanilla.deploy.mmdeploy_compat import WrappedFunctions


def through_onnxruntime(tmp_path, module, inputs, outputs, opset=17):
    """What the rewritten module computes eagerly, and in a stock ONNX Runtime.

    As mmdeploy's get_rewrite_outputs, which knows opset 11 alone and loads its own operators.
    """
    cfg = deploy_config('onnxruntime_static')
    context = dict(cfg=cfg, backend='onnxruntime', ir=IR.ONNX, opset=opset)
    with RewriterContext(**context), torch.no_grad():
        eager = module(**inputs)
    export(
        module.eval(),
        tuple(inputs.values()),
        str(tmp_path / 'module'),
        backend='onnxruntime',
        context_info=dict(deploy_cfg=cfg),
        input_names=list(inputs),
        output_names=outputs,
        opset_version=opset,
    )
    session = ort.InferenceSession(str(tmp_path / 'module.onnx'))
    found = session.run(outputs, {name: value.numpy() for name, value in inputs.items()})
    operators = {node.op_type for node in onnx.load(str(tmp_path / 'module.onnx')).graph.node}
    return eager, [torch.from_numpy(value) for value in found], operators


class Module(WrapFunction):
    """Takes its arguments by position, as the exporter hands them over."""

    def __init__(self, function, names):
        super().__init__(function)
        self.names = names

    def forward(self, *args, **kwargs):
        return super().forward(**dict(zip(self.names, args)), **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize('opset', [17, 20])
@pytest.mark.parametrize('mode', ['bilinear', 'nearest'])
@pytest.mark.parametrize('padding', ['zeros', 'border', 'reflection'])
def test_grid_sample(tmp_path, mode, padding, opset):
    def sample(value, grid):
        return F.grid_sample(value, grid, mode, padding, align_corners=False)

    inputs = dict(value=torch.rand(2, 3, 5, 7), grid=torch.rand(2, 4, 6, 2) * 3 - 1.5)
    module = Module(sample, list(inputs))
    eager, [found], operators = through_onnxruntime(tmp_path, module, inputs, ['out'], opset)
    assert 'GridSample' in operators
    for outputs in (eager, found):
        torch.testing.assert_close(outputs, sample(**inputs), atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_layer_norm(tmp_path):
    norm = nn.LayerNorm(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    inputs = dict(input=torch.randn(2, 5, 8))
    module = WrapModel(norm, 'forward')
    _, [found], operators = through_onnxruntime(tmp_path, module, inputs, ['out'])
    assert operators == {'LayerNormalization'}
    torch.testing.assert_close(found, norm(**inputs), atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('mask', [None, 'float', 'bool'])
def test_attention(tmp_path, mask):
    masks = dict(float=torch.randn(4, 6), bool=torch.rand(4, 6) > 0.3)
    keep = masks.get(mask)
    if mask == 'bool':
        keep[:, 0] = True

    def attention(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keep)

    shapes = dict(query=(2, 3, 4, 8), key=(2, 3, 6, 8), value=(2, 3, 6, 5))
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    module = Module(attention, list(inputs))
    eager, [found], operators = through_onnxruntime(tmp_path, module, inputs, ['out'])
    assert 'Dropout' not in operators
    for outputs in (eager, found):
        torch.testing.assert_close(outputs, attention(**inputs), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize('most', [7, 100])
def test_detections_of_a_batch(tmp_path, most):
    head = MODELS.build(
        dict(TINY_RTDETR['bbox_head'], in_channels=[32] * 3, test_cfg=dict(max_per_img=most))
    ).eval()
    inputs = dict(cls_scores=torch.randn(1, 3, 10, 4), bbox_preds=torch.rand(1, 3, 10, 4) * 0.9)
    metas = [dict(img_shape=(64, 96), batch_input_shape=(64, 96))] * 3
    module = WrapModel(head, 'predict_by_feat', batch_img_metas=metas, rescale=False)
    _, found, _ = through_onnxruntime(tmp_path, module, inputs, ['dets', 'labels'])
    dets, labels = found
    expected = head.predict_by_feat(**inputs, batch_img_metas=metas, rescale=False)
    assert dets.shape == (3, min(most, 40), 5)
    for image, found in enumerate(expected):
        torch.testing.assert_close(dets[image, :, :4], found.bboxes, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dets[image, :, 4], found.scores)
        assert torch.equal(labels[image].long(), found.labels)


@pytest.mark.slow
def test_grid_sample_needs_opset_16(tmp_path):
    inputs = dict(value=torch.rand(1, 3, 5, 7), grid=torch.rand(1, 4, 6, 2))
    module = Module(
        lambda value, grid: F.grid_sample(value, grid, align_corners=False), list(inputs)
    )
    with pytest.raises(DeployError, match='opset 13 has no GridSample'):
        through_onnxruntime(tmp_path, module, inputs, ['out'], opset=13)


def test_the_list_that_mmdeploy_expects_of_torch_fx():
    functions = {}
    view = WrappedFunctions(functions)
    first, second = {'a': 1}, {'b': 2}
    view.append((first, 'f'))
    view.append((second, 'g'))
    assert list(view) == [(first, 'f'), (second, 'g')] and len(view) == 2
    assert functions == {(id(first), 'f'): first, (id(second), 'g'): second}
    assert view.pop(-1) == (second, 'g') and list(view) == [(first, 'f')]


@pytest.mark.slow
def test_torch_exports_as_before_outside_of_mmdeploy(tmp_path):
    before = torch.onnx.export
    test_layer_norm(tmp_path)
    assert torch.onnx.export is before
