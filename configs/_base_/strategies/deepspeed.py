# DeepSpeed's ZeRO stage 2 shards gradients and optimizer state: docs/distributed.md.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    # DeepSpeed updates the weights itself: what optim_wrapper.clip_grad does elsewhere.
    gradient_clipping=0.1,
    zero_optimization=dict(
        stage=2,
        allgather_partitions=True,
        reduce_scatter=True,
        overlap_comm=True,
        contiguous_gradients=True,
    ),
)
