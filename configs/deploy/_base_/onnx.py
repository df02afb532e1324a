# Standard ONNX with everything up to the detections in it: outputs dets (N, K, 5), corners in
# pixels of the input and score, and labels (N, K).
_base_ = './detection.py'

onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=17,
    save_file='end2end.onnx',
    input_names=['input'],
    output_names=['dets', 'labels'],
    input_shape=[640, 640],
    optimize=False,
)
