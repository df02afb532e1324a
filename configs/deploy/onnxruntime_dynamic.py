# Any batch, height and width; sides are multiples of 32.
_base_ = './onnxruntime_static.py'

onnx_config = dict(
    input_shape=None,
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'}, dets={0: 'batch'}, labels={0: 'batch'}
    ),
)
