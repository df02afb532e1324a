from .atomic_checkpoint_hook import AtomicCheckpointHook
from .batch_augment_schedule_hook import BatchAugmentScheduleHook
from .channels_last_hook import ChannelsLastHook
from .check_checkpoint_hook import CheckCheckpointHook
from .check_dataset_hook import CheckDatasetHook
from .class_rows_hook import ClassRowsHook
from .convert_checkpoint_hook import ConvertCheckpointHook
from .deep_training_hook import DeepTrainingHook
from .exact_resume_hook import ExactResumeHook
from .host_memory_hook import HostMemoryHook
from .initial_weights_hook import FrozenLayersError, InitialWeightsHook
from .invalid_loss_hook import InvalidLossHook
from .left_out_images_hook import LeftOutImagesHook
from .results_hook import ResultsHook
from .switch_to_deploy_hook import SwitchToDeployHook

__all__ = [
    'AtomicCheckpointHook',
    'BatchAugmentScheduleHook',
    'ChannelsLastHook',
    'CheckCheckpointHook',
    'CheckDatasetHook',
    'ClassRowsHook',
    'ConvertCheckpointHook',
    'DeepTrainingHook',
    'ExactResumeHook',
    'FrozenLayersError',
    'HostMemoryHook',
    'InitialWeightsHook',
    'InvalidLossHook',
    'LeftOutImagesHook',
    'ResultsHook',
    'SwitchToDeployHook',
]
