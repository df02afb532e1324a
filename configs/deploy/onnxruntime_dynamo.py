# As onnxruntime_dynamic.py by torch.onnx.export(dynamo=True), without mmdeploy's rewriters.
# mmdeploy's own tools know no such option and export by tracing.
_base_ = './onnxruntime_dynamic.py'

onnx_config = dict(dynamo=True, opset_version=18)
