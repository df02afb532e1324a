"""The same network in PyTorch and in exported runtimes, timed in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import Tensor, nn

from mmdet_vanilla.deploy import exporter
from mmdet_vanilla.deploy.runtimes import load_onnxruntime, load_openvino, require_runtime
from mmdet_vanilla.deploy.verify import reference_detections

Run = Callable[[], object]


def backbone_functions(arch: str, size: int, folder: Path) -> dict[str, Run]:
    """One image through a fused VanillaNet backbone.

    Args:
        arch: Name of the VanillaNet.
        size: Side of the image.
        folder: For exported files.

    Returns:
        By the runtime's name, what to time.
    """
    model = MODELS.build(dict(type='VanillaNet', arch=arch, deploy=True)).eval()
    images = torch.randn(1, 3, size, size)
    path = folder / 'backbone.onnx'
    names = [f'feature{i}' for i in range(len(model.out_channels))]
    with torch.no_grad():
        torch.onnx.export(
            model,
            (images,),
            str(path),
            input_names=['input'],
            output_names=names,
            opset_version=17,
            **exporter.BY_TRACING,
        )
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    fast_images = images.contiguous(memory_format=torch.channels_last)
    return {
        'pytorch': _inference(model, images),
        'pytorch, channels-last': _inference(fast, fast_images),
        **_runtimes(path, images.numpy(), names),
    }


def detector_functions(cfg: Config, size: int, folder: Path) -> dict[str, Run]:
    """One image through a fused detector, to its detections.

    Args:
        cfg: Config of a model of this package.
        size: Side of the image.
        folder: For exported files.

    Returns:
        By the runtime's name, what to time.
    """
    register_all_modules(init_default_scope=True)
    model = exporter.fuse(MODELS.build(copy.deepcopy(cfg.model)).eval())
    images = torch.randn(1, 3, size, size)
    path = folder / 'detector.onnx'
    deploy_cfg = Config(
        dict(
            onnx_config=dict(
                type='onnx',
                opset_version=17,
                input_names=['input'],
                output_names=['dets', 'labels'],
                input_shape=[size, size],
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
    array = images.numpy()
    onnxruntime = load_onnxruntime(path, torch.get_num_threads())
    openvino = load_openvino(path, torch.get_num_threads())
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    fast_images = images.contiguous(memory_format=torch.channels_last)
    return {
        'pytorch': lambda: reference_detections(model, images),
        'pytorch, channels-last': lambda: reference_detections(fast, fast_images),
        'onnxruntime': lambda: onnxruntime(array),
        'openvino': lambda: openvino(array),
    }


def transformers_function(size: int) -> Run:
    """One image through ``transformers``' RT-DETR of the shape of R18, in eager PyTorch."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type='basic',
        out_features=['stage2', 'stage3', 'stage4'],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
    )
    model = RTDetrForObjectDetection(config).eval()
    return _inference(model, torch.randn(1, 3, size, size))


def sgemm_functions(n: int = 2048) -> tuple[dict[str, Run], float]:
    """The machine's measure: a float32 matrix product of n x n.

    Args:
        n: Side of the matrices.

    Returns:
        By library, what to time, and its GFLOP. PyTorch multiplies by MKL, which uses half the
        width of other makers' vector units; as a 1x1 convolution oneDNN computes the same product.
    """
    a, b = torch.rand(n, n), torch.rand(n, n)
    pixels = b.T.reshape(1, n, 1, n).permute(0, 3, 1, 2)  # channels last
    kernel = a.reshape(n, n, 1, 1)
    functions = dict(
        mm=torch.inference_mode()(lambda: a @ b),
        conv=torch.inference_mode()(lambda: nn.functional.conv2d(pixels, kernel)),
    )
    return functions, 2 * n**3 / 1e9


def _inference(model: nn.Module, images: Tensor) -> Run:
    return torch.inference_mode()(lambda: model(images))


def _runtimes(path: Path, images: np.ndarray, names: list[str]) -> dict[str, Run]:
    ort, ov = require_runtime('onnxruntime'), require_runtime('openvino')
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    config = {
        'INFERENCE_PRECISION_HINT': 'f32',
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
    }
    request = ov.Core().compile_model(str(path), 'CPU', config).create_infer_request()
    return {
        'onnxruntime': lambda: session.run(names, {'input': images}),
        'openvino': lambda: request.infer({'input': images}),
    }
