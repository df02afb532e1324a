"""Fuses the model before it is evaluated."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_vanilla.models.layers.reparam import switch_to_deploy

from .detector_of import detector_of


@HOOKS.register_module()
class SwitchToDeployHook(Hook):
    """Calls ``switch_to_deploy`` on the model (or its parts) before testing.

    Checkpoints are loaded before that, so they are those of the training form.
    """

    def before_test(self, runner: Runner) -> None:
        """Fuses the model in place."""
        model = detector_of(runner)
        switch_to_deploy(model)
        runner.logger.info('Testing the fused (deploy) form of the model.')
