# One image of 640x640, for plain torch and libtorch.
_base_ = './_base_/detection.py'

ir_config = dict(
    type='torchscript',
    save_file='end2end.pt',
    input_shape=[640, 640],
    input_names=['input'],
    output_names=['dets', 'labels'],
)
backend_config = dict(type='torchscript')
