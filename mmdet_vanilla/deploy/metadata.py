"""What an exported file says about itself, so that it runs without the config it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmengine.config import Config

from mmdet_vanilla.version import __version__

from .errors import DeployError

if TYPE_CHECKING:
    from onnx import ModelProto

PRODUCER = 'mmdet_vanilla'


def make_metadata(cfg: Config, class_names: Sequence[str], deploy_cfg: Config) -> dict[str, str]:
    """What whoever runs the file needs to know.

    Args:
        cfg: Config of the model, with its ``test_pipeline`` and data preprocessor.
        class_names: Names of the classes, in the order of the labels.
        deploy_cfg: Config of the export.

    Returns:
        ``names`` (a JSON list), ``input_size`` (JSON, height and width that the model was made
        for), ``dynamic`` (JSON, whether others will do), ``keep_ratio`` (JSON), ``mean`` and
        ``std`` (JSON, of the channels in ``channel_order``, 0..255), ``channel_order``,
        ``size_divisor`` (JSON), ``model``, ``producer``.

    Raises:
        DeployError: If the config resizes its images in no way that can be told in this form.
    """
    resizes = [step for step in cfg.test_pipeline if step['type'].split('.')[-1] == 'Resize']
    if len(resizes) != 1:
        raise DeployError(
            f'test_pipeline has {len(resizes)} transforms Resize, expected one: it tells the '
            'input size of the exported model.'
        )
    width, height = resizes[0]['scale']
    onnx_config = deploy_cfg.get('onnx_config') or {}
    static = onnx_config.get('input_shape')
    if static:
        width, height = static
    preprocessor = cfg.model.data_preprocessor
    return dict(
        producer=f'{PRODUCER} {__version__}',
        model=cfg.model.type,
        names=json.dumps(list(class_names), ensure_ascii=False),
        input_size=json.dumps([height, width]),
        dynamic=json.dumps(not static),
        # A static input is filled whatever the image's shape.
        keep_ratio=json.dumps(bool(resizes[0].get('keep_ratio')) and not static),
        mean=json.dumps(list(preprocessor.get('mean', [0, 0, 0]))),
        std=json.dumps(list(preprocessor.get('std', [1, 1, 1]))),
        channel_order='RGB' if preprocessor.get('bgr_to_rgb') else 'BGR',
        size_divisor=json.dumps(preprocessor.get('pad_size_divisor', 1)),
    )


def write_metadata(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Puts metadata into an ONNX model, in place."""
    import onnx

    model.producer_name = PRODUCER
    model.producer_version = __version__
    onnx.helper.set_model_props(model, dict(metadata))
