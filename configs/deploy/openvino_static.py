_base_ = './onnxruntime_static.py'

backend_config = dict(
    _delete_=True,
    type='openvino',
    model_inputs=[dict(opt_shapes=dict(input=[1, 3, 640, 640]))],
)
