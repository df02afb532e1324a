# Weights stored in half precision; the CPU computes in float32 unless told otherwise.
_base_ = './openvino_dynamic.py'

backend_config = dict(precision='fp16')
