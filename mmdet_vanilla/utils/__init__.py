"""What several packages and the tools share.

The names below are imported when they are first used, since most of them need torch, and the tools
look at their arguments before they import that.
"""

import importlib
from typing import Any

_HOMES = {
    'CheckpointError': 'checkpoint',
    'UnsafeCheckpointError': 'checkpoint',
    'WeightsError': 'weights',
    'check_weights': 'weights',
    'convert_state_dict': 'convert',
    'fetch_checkpoint': 'checkpoint',
    'latest_checkpoint': 'checkpoint',
    'read_checkpoint': 'checkpoint',
    'to_official_state_dict': 'official_names',
    'unwrap_state_dict': 'weights',
    'write_checkpoint': 'checkpoint',
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_HOMES[name]}', __name__), name)
