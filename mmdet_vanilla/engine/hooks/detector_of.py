"""The detector inside a runner's wrappers."""

from __future__ import annotations

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def detector_of(runner: Runner) -> nn.Module:
    """The runner's model without wrappers for distribution or test-time augmentation."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
