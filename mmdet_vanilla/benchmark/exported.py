"""Networks in exported runtimes, as functions to time."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmdet_vanilla.deploy import exporter
from mmdet_vanilla.deploy.runtimes import require_runtime
from mmdet_vanilla.utils.timing import Run


def export_backbone(model: nn.Module, images: Tensor, path: Path) -> None:
    """Exports a fused backbone to ONNX.

    Args:
        model: In evaluation mode, returns feature maps.
        images: Example input (N, 3, H, W).
        path: The file to write.
    """
    with torch.no_grad():
        torch.onnx.export(
            model,
            (images,),
            str(path),
            input_names=['input'],
            opset_version=17,
            **exporter.BY_TRACING,
        )


def export_detector(model: nn.Module, images: Tensor, path: Path) -> None:
    """Exports a fused detector to ONNX, for a fixed batch and size.

    Args:
        model: In evaluation mode.
        images: Example input (N, 3, H, W).
        path: The file to write.
    """
    deploy_cfg = Config(
        dict(
            onnx_config=dict(
                type='onnx',
                opset_version=17,
                input_names=['input'],
                output_names=['dets', 'labels'],
                input_shape=list(images.shape[:1:-1]),
                save_file=path.name,
            ),
            backend_config=dict(type='onnxruntime'),
            codebase_config=dict(
                type='mmdet',
                task='ObjectDetection',
                model_type='end2end',
                module=['mmdet_vanilla.deploy'],
            ),
        )
    )
    exporter.export_onnx(model, images, deploy_cfg, path)
    exporter.simplify_onnx(path)


def load(path: Path, runtime: str, images: Tensor) -> Run:
    """Loads an ONNX file whose input is named ``input``.

    Args:
        path: The file; not needed afterwards.
        runtime: ``'onnxruntime'``, ``'openvino'`` or ``'openvino, bfloat16'``.
        images: What it is called with.

    Returns:
        A function that returns a list of all outputs.
    """
    array = images.numpy()
    if runtime == 'onnxruntime':
        ort = require_runtime('onnxruntime')
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Threads that spin between calls slow down whatever else is measured beside.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        return lambda: session.run(None, {'input': array})
    ov = require_runtime('openvino')
    config = {
        'INFERENCE_PRECISION_HINT': 'bf16' if runtime.endswith('bfloat16') else 'f32',
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
    }
    model = ov.Core().compile_model(str(path), 'CPU', config)
    request = model.create_infer_request()

    def run() -> list:
        outputs = request.infer({'input': array})
        return [outputs[port] for port in model.outputs]

    return run
