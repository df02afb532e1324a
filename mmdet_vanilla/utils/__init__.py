from .checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    fetch_checkpoint,
    latest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from .convert import convert, convert_state_dict
from .official_names import to_official_state_dict
from .weights import WeightsError, check_weights, unwrap_state_dict

__all__ = [
    'CheckpointError',
    'UnsafeCheckpointError',
    'WeightsError',
    'check_weights',
    'convert',
    'convert_state_dict',
    'fetch_checkpoint',
    'latest_checkpoint',
    'read_checkpoint',
    'to_official_state_dict',
    'unwrap_state_dict',
    'write_checkpoint',
]
