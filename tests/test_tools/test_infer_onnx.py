"""tools/infer_onnx.py against the pipeline that a model is trained with, without exporting one."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmdet.registry import MODELS, TRANSFORMS

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

MEAN, STD = [123.0, 116.0, 103.0], [58.0, 57.0, 56.0]
DETS = np.float32([[[8, 16, 24, 32, 0.9], [30, 12, 60, 44, 0.5], [0, 0, 4, 4, 0.1]]])
# Photographs: height, width.
SIZES = [(75, 200), (201, 90), (96, 128), (33, 47)]


def load_tool():
    path = CONFIGS.parent / 'tools' / 'infer_onnx.py'
    spec = importlib.util.spec_from_file_location('infer_onnx', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_model(path, **metadata):
    """A file that detects :data:`DETS`, in pixels of its input, in every image."""
    helper, kind = onnx.helper, onnx.TensorProto
    values = dict(dets=DETS, labels=np.array([[1, 0, 1]]))
    nodes = [
        helper.make_node('Constant', [], [name], value=onnx.numpy_helper.from_array(value))
        for name, value in values.items()
    ]
    graph = helper.make_graph(
        nodes,
        'fixed',
        [helper.make_tensor_value_info('input', kind.FLOAT, [1, 3, 'h', 'w'])],
        [
            helper.make_tensor_value_info('dets', kind.FLOAT, DETS.shape),
            helper.make_tensor_value_info('labels', kind.INT64, [1, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 16)], ir_version=8)
    metadata = dict(
        dict(
            names=['a', 'b'],
            input_size=[96, 128],
            keep_ratio=False,
            size_divisor=32,
            mean=MEAN,
            std=STD,
        ),
        **metadata,
    )
    channel_order = metadata.pop('channel_order', 'RGB')
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    helper.set_model_props(model, dict(texts, channel_order=channel_order))
    onnx.save(model, str(path))
    return str(path)


def photo(size):
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('keep_ratio', [False, True])
@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_sees_what_the_test_pipeline_shows_a_model(tmp_path, keep_ratio, order):
    path = write_model(tmp_path / 'a.onnx', keep_ratio=keep_ratio, channel_order=order)
    detector = load_tool().OnnxDetector(path)
    resize = TRANSFORMS.build(dict(type='Resize', scale=(128, 96), keep_ratio=keep_ratio))
    preprocessor = MODELS.build(
        dict(
            type='DetDataPreprocessor',
            mean=MEAN,
            std=STD,
            bgr_to_rgb=order == 'RGB',
            pad_size_divisor=32,
        )
    )
    for size in SIZES:
        image = photo(size)
        results = resize(dict(img=image.copy(), img_shape=size))
        array = torch.from_numpy(results['img'].transpose(2, 0, 1).copy())
        expected = preprocessor(dict(inputs=[array], data_samples=None))['inputs']
        inputs, scale = detector.preprocess(image)
        assert inputs.shape == tuple(expected.shape)
        np.testing.assert_allclose(inputs, expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(scale, results['scale_factor'], rtol=1e-6)


def test_boxes_are_in_pixels_of_the_photograph(tmp_path):
    tool = load_tool()
    # 60 x 200 (height x width) is stretched to 96 x 128.
    stretched = tool.OnnxDetector(write_model(tmp_path / 'a.onnx'))(photo((60, 200)), 0.4)
    assert stretched.scores.tolist() == pytest.approx([0.9, 0.5])
    assert stretched.labels.tolist() == [1, 0]
    np.testing.assert_allclose(stretched.boxes[0], [12.5, 10, 37.5, 20], rtol=1e-5)
    # With its shape kept, 192 x 256 becomes 96 x 128, and 24 x 64 becomes 48 x 128.
    path = write_model(tmp_path / 'b.onnx', keep_ratio=True)
    for size, factor in (((192, 256), 0.5), ((24, 64), 2.0)):
        kept = tool.OnnxDetector(path)(photo(size))
        np.testing.assert_allclose(kept.boxes, DETS[0, :, :4] / factor, rtol=1e-5)
