# Our rewriters and symbolics, for mmdeploy.
codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    model_type='end2end',
    module=['mmdet_vanilla.deploy'],
)
