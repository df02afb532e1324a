# 8-bit convolutions, calibrated on the images of --image or --data; the decoder stays float32.
_base_ = './onnxruntime_dynamic.py'

backend_config = dict(precision='int8')
