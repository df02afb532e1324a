"""Other precisions and other runtimes' files from an ONNX file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .errors import DeployError
from .runtimes import require_runtime

# The decoder is a few per cent of the cost, and its boxes, refined layer by layer, suffer most from
# low precision. A part of a name in the graph.
DECODER = 'bbox_head'
# Of the rest, what half precision or 8 bits make faster; positions and what sizes are computed
# from stay as they are.
_HALF_OPERATORS = ('Conv', 'Gemm', 'MatMul', 'Relu', 'MaxPool', 'AveragePool', 'Add', 'Mul')
_HALF_OPERATORS += ('Sigmoid', 'Concat', 'Resize', 'Split', 'LayerNormalization', 'Softmax')
_OPENVINO_CONVOLUTIONS = {'Convolution', 'GroupConvolution'}


def to_float16(path: Path) -> None:
    """Lets an ONNX file compute in half precision outside of its decoder, in place.

    Input and outputs stay float32.

    Args:
        path: The file.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(path))
    operators = {node.op_type for node in model.graph.node}
    keep = [node.name for node in model.graph.node if _in_decoder(node)]
    model = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=sorted(operators - set(_HALF_OPERATORS)),
        node_block_list=keep,
    )
    # The casts that it has put in are at the end.
    sorted_model = OnnxModel(model)
    sorted_model.topological_sort()
    onnx.save(sorted_model.model, str(path))


def to_int8(path: Path, images: Sequence[np.ndarray]) -> None:
    """Quantises the convolutions of an ONNX file to 8 bits, in place, by ONNX Runtime.

    Args:
        path: The file.
        images: Calibration data (1, 3, H, W), normalised.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict | None:
            image = next(self.images, None)
            return None if image is None else {'input': image}

    import onnx

    names = [node.name for node in onnx.load(str(path)).graph.node if _in_decoder(node)]
    prepared = path.with_name(f'{path.stem}.prepared.onnx')
    # Its level of logging is the process's.
    root = logging.getLogger()
    level = root.level
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=['Conv'],
            nodes_to_exclude=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        root.setLevel(level)
        prepared.unlink(missing_ok=True)


def to_openvino(
    path: Path,
    metadata: Mapping[str, str],
    precision: str = 'fp32',
    images: Iterable[np.ndarray] = (),
) -> Path:
    """Writes an ONNX file as OpenVINO's ``.xml`` and ``.bin`` beside it.

    Args:
        path: The ONNX file.
        metadata: Written under ``rt_info/mmdet_vanilla``.
        precision: ``'fp32'`` and ``'bf16'``, in which the CPU computes float32 weights if asked to;
            ``'fp16'`` stores the weights so; ``'int8'`` quantises by NNCF.
        images: Calibration data (1, 3, H, W), normalised, for ``'int8'``.

    Returns:
        Path of the ``.xml`` file.

    Raises:
        DeployError: If a package is missing.
    """
    ov = require_runtime('openvino')
    model = ov.convert_model(str(path))
    if precision == 'int8':
        nncf = require_runtime('nncf')
        others = {op.get_type_name() for op in model.get_ops()} - _OPENVINO_CONVOLUTIONS
        others -= {'Constant', 'Parameter', 'Result'}
        model = nncf.quantize(
            model,
            nncf.Dataset(list(images), lambda image: {'input': image}),
            subset_size=len(list(images)),
            preset=nncf.QuantizationPreset.MIXED,
            # Convolutions alone, as in to_int8. The pattern is not enough: OpenVINO's LayerNorms
            # and what selects the queries have lost the names of the decoder.
            ignored_scope=nncf.IgnoredScope(
                patterns=[f'.*{DECODER}.*'], types=sorted(others), validate=False
            ),
        )
    for key, value in metadata.items():
        model.set_rt_info(value, ['mmdet_vanilla', key])
    target = path.with_suffix('.xml')
    ov.save_model(model, str(target), compress_to_fp16=precision == 'fp16')
    return target


def _in_decoder(node) -> bool:
    return DECODER in node.name or any(DECODER in name for name in node.output)


def read_openvino_metadata(path: Path) -> dict[str, str]:
    """What :func:`to_openvino` has written, by key.

    Raises:
        DeployError: If the file has none.
    """
    ov = require_runtime('openvino')
    model = ov.Core().read_model(str(path))
    if not model.has_rt_info(['mmdet_vanilla', 'names']):
        raise DeployError(f'{path} holds no metadata of mmdet_vanilla: export it once more.')
    keys = ('producer', 'model', 'names', 'input_size', 'dynamic', 'keep_ratio', 'mean', 'std')
    keys += ('channel_order', 'size_divisor')
    return {key: str(model.get_rt_info(['mmdet_vanilla', key]).value) for key in keys}


def parse_metadata(metadata: Mapping[str, str]) -> dict:
    """Metadata with its JSON values decoded."""
    texts = ('producer', 'model', 'channel_order')
    return {k: v if k in texts else json.loads(v) for k, v in metadata.items()}
