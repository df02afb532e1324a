# One image of 640x640.
_base_ = './_base_/onnx.py'

backend_config = dict(type='onnxruntime')
