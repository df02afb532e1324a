# 8 bits by NNCF, calibrated on the images of --image or --data; the decoder stays float32.
_base_ = './openvino_dynamic.py'

backend_config = dict(precision='int8')
