"""Runs exported models: one class per runtime, all called with a batch and returning detections."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from .errors import DeployError

# (N, 3, H, W) float32, normalised -> dets (N, K, 5) and labels (N, K).
Detect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Backend's name in mmdeploy -> module to import, and what to install for it.
_PACKAGES = dict(
    onnxruntime=('onnxruntime', 'pip install onnxruntime'),
    openvino=('openvino', 'pip install openvino'),
    torchscript=('torch', 'pip install torch'),
    tensorrt=('tensorrt', 'pip install tensorrt, with an NVIDIA GPU and its driver'),
    ncnn=('ncnn', 'pip install ncnn pnnx'),
    nncf=('nncf', 'pip install nncf'),
    onnxscript=('onnxscript', 'pip install onnxscript'),
)


def require_runtime(name: str) -> ModuleType:
    """Imports the package of a runtime.

    Args:
        name: Backend's name in mmdeploy, such as ``'onnxruntime'``.

    Raises:
        DeployError: If it is unknown or not installed.
    """
    if name not in _PACKAGES:
        raise DeployError(f'runtime {name!r}: expected one of {", ".join(_PACKAGES)}.')
    module, command = _PACKAGES[name]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DeployError(f'{name} is not installed ({error}): {command}') from None


def load_onnxruntime(path: Path, threads: int = 0) -> Detect:
    """An ONNX file on the CPU of ONNX Runtime.

    Args:
        path: The file.
        threads: Threads of an operator; 0 leaves it to the runtime.

    Returns:
        The detector.

    Raises:
        DeployError: If the runtime is missing or cannot load the file.
    """
    ort = require_runtime('onnxruntime')
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between calls slow down whatever else is measured beside.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    try:
        session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions share no base class
        raise DeployError(f'ONNX Runtime cannot load {path}: {error}') from None
    return lambda images: session.run(['dets', 'labels'], {'input': images})


def load_openvino(path: Path, threads: int = 0, precision: str = 'f32') -> Detect:
    """An OpenVINO or ONNX file on OpenVINO's CPU.

    Args:
        path: The file (``.xml`` or ``.onnx``).
        threads: Threads; 0 leaves it to the runtime.
        precision: In which it computes: ``'f32'``, or ``'bf16'`` or ``'f16'`` where the CPU can.

    Returns:
        The detector.

    Raises:
        DeployError: If the runtime is missing or cannot load the file.
    """
    ov = require_runtime('openvino')
    config = {'INFERENCE_PRECISION_HINT': precision}
    if threads:
        config['INFERENCE_NUM_THREADS'] = threads
    try:
        compiled = ov.Core().compile_model(str(path), 'CPU', config)
    except RuntimeError as error:
        raise DeployError(f'OpenVINO cannot load {path}: {error}') from None
    request = compiled.create_infer_request()

    def detect(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = request.infer({'input': images})
        return tuple(outputs[name].copy() for name in ('dets', 'labels'))

    return detect


def load_torchscript(path: Path, threads: int = 0) -> Detect:
    """A TorchScript file on the CPU.

    Args:
        path: The file.
        threads: Not used: PyTorch's number of threads belongs to the process.

    Returns:
        The detector.
    """
    torch = require_runtime('torchscript')
    module = torch.jit.load(str(path)).eval()

    def detect(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            return tuple(output.numpy() for output in module(torch.from_numpy(images)))

    return detect


LOADERS = dict(onnxruntime=load_onnxruntime, openvino=load_openvino, torchscript=load_torchscript)
