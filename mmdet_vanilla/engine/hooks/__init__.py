from .channels_last_hook import ChannelsLastHook
from .check_checkpoint_hook import CheckCheckpointHook
from .check_dataset_hook import CheckDatasetHook
from .convert_checkpoint_hook import ConvertCheckpointHook
from .switch_to_deploy_hook import SwitchToDeployHook

__all__ = [
    'ChannelsLastHook',
    'CheckCheckpointHook',
    'CheckDatasetHook',
    'ConvertCheckpointHook',
    'SwitchToDeployHook',
]
