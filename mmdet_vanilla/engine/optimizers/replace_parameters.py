"""Exchanges parameters of an optimizer in the middle of training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer


def replace_parameters(
    optimizer: Optimizer, replaced: Mapping[nn.Parameter, nn.Parameter | None]
) -> None:
    """Puts new parameters in the places of old ones, in place.

    A new parameter takes the position, and so the learning rate and weight decay, of the one that
    it replaces, and starts without state. Groups stay, even empty ones, since learning rate
    schedules know them by their position.

    Args:
        optimizer: The optimizer.
        replaced: For every parameter that goes, the one that takes its place or ``None``.
    """
    for group in optimizer.param_groups:
        params = (replaced.get(param, param) for param in group['params'])
        group['params'] = [param for param in params if param is not None]
    for param in replaced:
        optimizer.state.pop(param, None)
