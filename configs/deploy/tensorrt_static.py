# One image of 640x640. The ONNX file is checked on ONNX Runtime; trtexec builds the engine from it.
_base_ = './_base_/onnx.py'

_shape = [1, 3, 640, 640]
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 30),
    model_inputs=[
        dict(input_shapes=dict(input=dict(min_shape=_shape, opt_shape=_shape, max_shape=_shape)))
    ],
)
