_base_ = './tensorrt_dynamic.py'

backend_config = dict(common_config=dict(fp16_mode=True))
