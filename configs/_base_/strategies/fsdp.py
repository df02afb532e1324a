# Shards parameters, gradients and optimizer state over the processes: docs/distributed.md.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    # The parameter groups need the model's own parameters.
    model_wrapper=dict(type='MMFullyShardedDataParallel', use_orig_params=True),
    # One checkpoint file that loads without FSDP, too.
    state_dict_cfg='full',
)
