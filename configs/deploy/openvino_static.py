_base_ = './onnxruntime_static.py'

backend_config = dict(_delete_=True, type='openvino')
