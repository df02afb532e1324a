from .checkpoint import UnsafeCheckpointError, fetch_checkpoint, read_checkpoint
from .weights import unwrap_state_dict

__all__ = ['UnsafeCheckpointError', 'fetch_checkpoint', 'read_checkpoint', 'unwrap_state_dict']
