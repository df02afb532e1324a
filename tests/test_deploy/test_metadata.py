import json

import pytest
from deploy_helpers import NAMES, deploy_config, tiny_config

from mmdet_vanilla.deploy import DeployError
from mmdet_vanilla.deploy.metadata import make_metadata


@pytest.mark.parametrize('keep_ratio', [False, True])
@pytest.mark.parametrize(
    'name, dynamic', [('onnxruntime_dynamic', True), ('onnxruntime_static', False)]
)
def test_says_how_an_image_becomes_an_input(keep_ratio, name, dynamic):
    cfg = tiny_config((96, 128))
    cfg.test_pipeline[1].keep_ratio = keep_ratio
    found = make_metadata(cfg, NAMES, deploy_config(name, (64, 160)))
    texts = {key: found.pop(key) for key in ('channel_order', 'model', 'producer')}
    assert texts['channel_order'] == 'RGB' and texts['model'] == 'RTDETR'
    assert {key: json.loads(value) for key, value in found.items()} == dict(
        names=list(NAMES),
        input_size=[96, 128] if dynamic else [64, 160],
        dynamic=dynamic,
        # A static input is filled whatever the shape of the image.
        keep_ratio=keep_ratio and dynamic,
        mean=[123.0, 116.0, 103.0],
        std=[58.0, 57.0, 57.0],
        size_divisor=32,
    )


def test_the_order_of_the_channels_is_that_of_the_preprocessor():
    cfg = tiny_config()
    cfg.model.data_preprocessor.bgr_to_rgb = False
    found = make_metadata(cfg, NAMES, deploy_config('onnxruntime_dynamic'))
    assert found['channel_order'] == 'BGR'


def test_needs_one_resize():
    cfg = tiny_config()
    cfg.test_pipeline.append(cfg.test_pipeline[1])
    with pytest.raises(DeployError, match='has 2 transforms Resize, expected one'):
        make_metadata(cfg, NAMES, deploy_config('onnxruntime_dynamic'))
