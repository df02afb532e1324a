# Half precision outside of the decoder; input and outputs stay float32.
_base_ = './onnxruntime_dynamic.py'

backend_config = dict(precision='fp16')
