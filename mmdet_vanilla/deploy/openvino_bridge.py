"""OpenVINO of today behind mmdeploy 1.3.1's OpenVINO backend.

mmdeploy converts by the command ``mo`` and runs by ``openvino.inference_engine``; OpenVINO ships
neither any more. Where they are missing, ``openvino.convert_model`` and ``openvino.Core`` take
their places in mmdeploy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmdeploy.backend.base import BACKEND_WRAPPER, BaseWrapper
from mmdeploy.utils import Backend

from .runtimes import require_runtime


def from_onnx(
    onnx_model: str,
    output_file_prefix: str,
    input_info: Mapping[str, Sequence[int]],
    output_names: Sequence[str],
    mo_options: object | None = None,
) -> None:
    """Writes an ONNX file as OpenVINO's ``.xml`` and ``.bin``, with its dynamic sizes.

    Args:
        onnx_model: Path of the ONNX file.
        output_file_prefix: Folder to write to, as mmdeploy calls it.
        input_info: Not used: the sizes are those of the ONNX file.
        output_names: Not used: all outputs are kept.
        mo_options: Not used: options of ``mo``.
    """
    ov = require_runtime('openvino')
    target = Path(output_file_prefix) / f'{Path(onnx_model).stem}.xml'
    target.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.convert_model(onnx_model), str(target), compress_to_fp16=False)


class OpenVINOWrapper(BaseWrapper):
    """Runs an OpenVINO file for mmdeploy.

    Args:
        ir_model_file: Path of the ``.xml`` file.
        output_names: Outputs in their order; by default the file's.
    """

    def __init__(
        self, ir_model_file: str, output_names: Sequence[str] | None = None, **kwargs
    ) -> None:
        ov = require_runtime('openvino')
        config = {'INFERENCE_PRECISION_HINT': 'f32'}
        compiled = ov.Core().compile_model(ir_model_file, 'CPU', config)
        self.request = compiled.create_infer_request()
        super().__init__(output_names or [output.any_name for output in compiled.outputs])

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Runs a batch: tensors by name to tensors by name."""
        arrays = {name: tensor.cpu().contiguous().numpy() for name, tensor in inputs.items()}
        outputs = self.request.infer(arrays)
        return {name: torch.from_numpy(outputs[name].copy()) for name in self.output_names}


def apply() -> None:
    """Puts the two into mmdeploy, where OpenVINO is installed and lacks what mmdeploy expects."""
    if importlib.util.find_spec('openvino') is None:
        return
    if importlib.util.find_spec('openvino.inference_engine') is not None:
        return
    from mmdeploy.backend.openvino import onnx2openvino, wrapper

    onnx2openvino.from_onnx = from_onnx
    wrapper.OpenVINOWrapper = OpenVINOWrapper
    BACKEND_WRAPPER.register_module(Backend.OPENVINO.value, force=True, module=OpenVINOWrapper)


apply()
