_base_ = './tensorrt_static.py'

backend_config = dict(common_config=dict(fp16_mode=True))
