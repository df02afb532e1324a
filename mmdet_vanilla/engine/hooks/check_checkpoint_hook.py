"""Stops a run whose checkpoint belongs to another model."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_vanilla.models.layers.reparam import switch_to_deploy
from mmdet_vanilla.utils.weights import (
    check_finite,
    check_weights,
    meta_of,
    unwrap_state_dict,
)

from .detector_of import detector_of


@HOOKS.register_module()
class CheckCheckpointHook(Hook):
    """Compares a checkpoint with the model before it is loaded.

    mmengine only warns of names that do not fit and goes on with what is left, random weights if
    need be. Here testing and resuming need every tensor; fine-tuning (``load_from``) needs at
    least half of the model's, so that another number of classes is fine and another model is not.
    Weights to test must be finite.
    """

    # After EMAHook, which may exchange the weights.
    priority = 'VERY_LOW'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks the weights that are about to be loaded."""
        model = detector_of(runner)
        # Until a training begins, its loop is the config's text.
        training = not isinstance(runner._train_loop, (dict, type(None)))
        fine_tuning = training and not runner._resume
        if meta_of(checkpoint).get('deploy') and not fine_tuning:
            switch_to_deploy(model)
        source, state = str(runner._load_from), unwrap_state_dict(checkpoint)
        if not training:
            check_finite(state, source)
        left_new = check_weights(
            model,
            state,
            source=source,
            least_share=0.5 if fine_tuning else 1.0,
        )
        if left_new:
            runner.logger.warning(
                f'{runner._load_from} does not fill these, which stay new: {", ".join(left_new)}'
            )
