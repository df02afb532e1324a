# mmdet's run time, checks that stop a run that cannot end well before it starts, conversion of
# foreign checkpoints on load, a folder of results, and what keeps a training through interruptions
# (docs/reliability.md).
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_vanilla'], allow_failed_imports=False)

default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook', save_best='auto', max_keep_ckpts=3),
    check_dataset=dict(type='CheckDatasetHook'),
    convert_checkpoint=dict(type='ConvertCheckpointHook'),
    class_rows=dict(type='ClassRowsHook'),
    check_checkpoint=dict(type='CheckCheckpointHook'),
    exact_resume=dict(type='ExactResumeHook'),
    initial_weights=dict(type='InitialWeightsHook'),
    invalid_loss=dict(type='InvalidLossHook'),
    left_out_images=dict(type='LeftOutImagesHook'),
    host_memory=dict(type='HostMemoryHook'),
    results=dict(type='ResultsHook'),
)
