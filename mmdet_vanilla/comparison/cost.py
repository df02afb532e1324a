"""Parameters and multiply-accumulate operations."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.structures import DetDataSample
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn

from mmdet_vanilla.models import switch_to_deploy

from .items import Item

# Operators that compute no products, or move data only: mmengine's list of what it does not count
# is full of them.
_COUNTABLE = ('scaled_dot_product', 'multi_head_attention', 'deform', 'conv', 'lstm', 'einsum')
_PER_ELEMENT = (
    'aten::batch_norm',
    'aten::group_norm',
    'aten::layer_norm',
    'aten::instance_norm',
    'aten::upsample_nearest2d',
    'aten::upsample_bilinear2d',
    'aten::adaptive_avg_pool2d',
    'aten::grid_sampler',
)
# Relative to the largest output: what folding a normalisation may change in float32.
_FUSION_TOLERANCE = 1e-3
_FUSION_SHARE = 0.95
_PROBE_SIDE = 256


class Macs(NamedTuple):
    """Multiply-accumulate operations of one forward pass."""

    total: int
    uncounted: list[str]  # operators with products that the counter does not know


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or not, without buffers."""
    return sum(p.numel() for p in model.parameters())


def count_macs(
    model: nn.Module, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
) -> Macs:
    """Counts multiply-accumulate operations with mmengine's counter.

    Convolutions, linear layers and matrix products are counted. What is done per element
    (normalisation, activation, interpolation, sampling) is not, as in the papers' figures.

    Args:
        model: A detector, or any module.
        inputs: (N, 3, H, W), normalised.
        data_samples: What a detector of mmdet wants beside them.

    Returns:
        The number, half the number of floating-point operations.
    """
    own_forward = model.__dict__.get('forward')
    if data_samples is not None:
        samples = copy.deepcopy(list(data_samples))
        model.forward = partial(model.forward, data_samples=samples)
    logger = logging.getLogger('mmengine.analysis.jit_analysis')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            analyzer = FlopAnalyzer(model, (inputs,))
            analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analyzer.tracer_warnings('none')
            for name in _PER_ELEMENT:  # None would only silence the counter about them
                analyzer.set_op_handle(name, lambda inputs, outputs: 0)
            # Attention of one operator computes the two products of the written-out one.
            analyzer.set_op_handle('aten::scaled_dot_product_attention', _attention_macs)
            total = int(analyzer.total())
            unknown = analyzer.unsupported_ops()
    finally:
        logger.setLevel(level)
        if data_samples is not None:
            if own_forward is None:
                del model.forward
            else:
                model.forward = own_forward
    uncounted = [name for name in sorted(unknown) if any(part in name for part in _COUNTABLE)]
    return Macs(total, uncounted)


def _attention_macs(inputs: list, outputs: list) -> int:
    query, key, value = (entry.type().sizes() for entry in inputs[:3])
    *batch, num_queries, width = query
    products = num_queries * key[-2] * (width + value[-1])
    for size in batch:
        products *= size
    return products


def fused_form(model: nn.Module) -> nn.Module | None:
    """A copy for inference: two-form modules switched, normalisations folded into convolutions.

    Folding goes by the order of modules, which is wrong where one convolution feeds several
    normalisations (RTMDet). So the outputs are compared, and folding is left out where they differ.

    Args:
        model: A detector in evaluation mode.

    Returns:
        The copy, or ``None`` if it would be the same model.
    """
    # Fresh statistics of a normalisation are 0 and 1, with which a wrong fold would go unseen.
    probe = copy.deepcopy(model)
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for fold in (_switched_and_folded, _switched):
        candidate = fold(probe)
        if count_parameters(candidate) != count_parameters(model) and _same(probe, candidate):
            return fold(model)
    return None


def _switched(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    switch_to_deploy(model)
    return model.eval()


def _switched_and_folded(model: nn.Module) -> nn.Module:
    return fuse_conv_bn(_switched(model)).eval()


def _same(model: nn.Module, other: nn.Module) -> bool:
    side = _PROBE_SIDE
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(side, side),
            ori_shape=(side, side),
            pad_shape=(side, side),
            batch_input_shape=(side, side),
            scale_factor=(1.0, 1.0),
        )
    )
    image = torch.randn(1, 3, side, side, device=next(model.parameters()).device)
    with torch.no_grad():
        outputs = [
            _tensors(m(image, [copy.deepcopy(sample)], mode='tensor')) for m in (model, other)
        ]
    if len(outputs[0]) != len(outputs[1]):
        return False
    for a, b in zip(*outputs):
        if a.shape != b.shape:
            return False
        # Where queries or proposals are chosen by score, near ties may change places, and a few
        # may be others: values are compared in their order, and most have to agree.
        a, b = a.flatten().sort()[0], b.flatten().sort()[0]
        near = (a - b).abs() <= _FUSION_TOLERANCE * a.abs().max().clamp(min=1.0)
        if a.numel() and near.float().mean() < _FUSION_SHARE:
            return False
    return True


def _tensors(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, dict):
        outputs = outputs.values()
    if isinstance(outputs, (list, tuple)) or hasattr(outputs, '__iter__'):
        return [tensor for output in outputs for tensor in _tensors(output)]
    return []


def exported_parameters(item: Item) -> int:
    """Number of weights in an exported file, constants of the graph included."""
    if item.kind == 'openvino':
        from mmdet_vanilla.deploy.runtimes import require_runtime

        model = require_runtime('openvino').Core().read_model(item.path)
        constants = [op for op in model.get_ops() if op.get_type_name() == 'Constant']
        floats = [c for c in constants if c.get_element_type().is_real() or c.data.ndim > 1]
        return int(sum(c.data.size for c in floats))
    import onnx

    graph = onnx.load(item.path, load_external_data=False).graph
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    total = 0
    for tensor in graph.initializer:
        if tensor.data_type not in integers:
            size = 1
            for side in tensor.dims:
                size *= side
            total += size
    return total


def file_bytes(item: Item) -> int | None:
    """Size of a checkpoint or exported file with what lies beside it; ``None`` where there is none.

    A checkpoint may hold an optimizer's state and averaged weights too.
    """
    if item.kind != 'pytorch':
        path = Path(item.path)
        beside = [path.with_suffix('.bin')] if item.kind == 'openvino' else []
        beside += path.parent.glob(f'{path.name}*data*') if item.kind == 'onnxruntime' else []
        return sum(file.stat().st_size for file in [path, *beside] if file.is_file())
    if item.checkpoint is None or '://' in item.checkpoint:
        return None
    return Path(item.checkpoint).stat().st_size
