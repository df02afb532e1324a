_base_ = './onnxruntime_dynamic.py'

backend_config = dict(_delete_=True, type='openvino')
