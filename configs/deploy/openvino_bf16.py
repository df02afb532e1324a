# The float32 file, computed in bfloat16 where the CPU has it: the application asks for it by
# INFERENCE_PRECISION_HINT.
_base_ = './openvino_dynamic.py'

backend_config = dict(precision='bf16')
