"""VanillaNet's deep training (https://arxiv.org/abs/2305.12972, section 3.1) as a hook."""

from __future__ import annotations

import math

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, Runner
from torch import nn

from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.pretrained import pretrained_entry

from ..optimizers.replace_parameters import replace_parameters
from .detector_of import detector_of


class DeepTrainingError(UserError, ValueError):
    """A schedule of deep training that cannot be carried out."""


def deep_training_slope(progress: float, end: float, mode: str = 'linear') -> float:
    """The slope of the leaky ReLU inside the pairs of convolutions, the paper's lambda.

    Args:
        progress: Epochs or iterations done.
        end: The same at which the slope reaches 1 (the paper's E), > 0.
        mode: ``'linear'``, e / E, or ``'cosine'``, (1 - cos(pi e / E)) / 2.

    Returns:
        0 at the start to 1 at ``end`` and after it.
    """
    share = min(progress / end, 1.0)
    return share if mode == 'linear' else 0.5 * (1 - math.cos(math.pi * share))


@HOOKS.register_module()
class DeepTrainingHook(Hook):
    """Trains VanillaNet as a deeper network first, and lets it grow flat.

    Between the two 1x1 convolutions of every block stands a leaky ReLU whose slope goes from 0 to 1
    over the first part of training. At 1 it does nothing any more, and the two convolutions can be
    merged. The slope follows from the training progress alone, so resuming needs no state.

    The schedule is for training from scratch: published weights were trained to slope 1, and at 0
    they compute something else. With ``load_from`` or a ``Pretrained`` backbone the hook therefore
    leaves the slope at 1 and says so; weights from the middle of a schedule are refused.

    A checkpoint saved below 1 holds its slope (``backbone.act_learn``), so that whoever loads it
    evaluates the function that was trained; fusing such a model is refused.

    Args:
        end: Epoch (or iteration) from which on the slope is 1; below 1, a share of the training.
        by_epoch: Whether to count epochs, as the authors do, or iterations, which also works with
            ``IterBasedTrainLoop``.
        mode: ``'linear'`` (the authors' default) or ``'cosine'``.
        merge_begin: Epoch (or iteration), at least ``end``, before which every pair of
            convolutions is merged into one that trains on, with the second one's normalisation, at
            half the backbone's cost. In evaluation mode the outputs stay the same. The optimizer's
            state of the merged convolutions starts anew. Below 1, a share of the training; ``None``
            never merges.
        with_pretrained: Whether to run the schedule on pretrained weights too.

    Raises:
        DeepTrainingError: For numbers out of range, and before training if the schedule is longer
            than the training, the loop counts no epochs, the model has no VanillaNet, or the
            weights to start from are from the middle of a schedule.
    """

    # Before EMAHook: a checkpoint is loaded into the form that it has.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        end: float,
        by_epoch: bool = True,
        mode: str = 'linear',
        merge_begin: float | None = None,
        with_pretrained: bool = False,
    ) -> None:
        if end <= 0:
            raise DeepTrainingError(
                f'end={end}: expected an epoch or iteration above 0, or a share of the training.'
            )
        if mode not in ('linear', 'cosine'):
            raise DeepTrainingError(f"mode={mode!r}: expected 'linear' or 'cosine'.")
        if merge_begin is not None and (merge_begin < 1) == (end < 1):  # of the same kind
            _check_order(end, merge_begin)
        self.end = end
        self.by_epoch = by_epoch
        self.mode = mode
        self.merge_begin = merge_begin
        self.with_pretrained = with_pretrained
        self.enabled = True
        # end and merge_begin in epochs or iterations, once the length of the training is known.
        self._end, self._merge_begin = end, merge_begin

    def before_train(self, runner: Runner) -> None:
        """Checks that the training fits the schedule, and whether it applies to these weights."""
        self._resolve(runner)
        # Whether a run started from pretrained weights can no longer be seen when it is resumed.
        key = 'deep_training'
        if runner._resume and key in runner.message_hub.runtime_info:
            self.enabled = runner.message_hub.get_info(key)
        else:
            self.enabled = self.with_pretrained or not self._is_pretrained(runner)
        runner.message_hub.update_info(key, self.enabled)
        if not self.enabled:
            slope = self._slope(runner)
            if slope < 1.0:
                raise DeepTrainingError(
                    f'the weights to start from were saved at act_learn={slope:.3g}, in the middle '
                    'of deep training. Resume that run (--resume), start from a checkpoint of its '
                    'end, or run the schedule once more from 0 (with_pretrained=True).'
                )
            runner.logger.info(
                'DeepTrainingHook: the weights are pretrained, so act_learn stays at 1, the value '
                'that they were trained with (with_pretrained=True runs the schedule all the same).'
            )
        if self.by_epoch:
            self._update(runner, runner.epoch)

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the slope of this epoch."""
        if self.by_epoch:
            self._update(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Sets the slope of this iteration, and logs it."""
        if not self.by_epoch:
            self._update(runner, runner.iter)
        runner.message_hub.update_scalar('train/act_learn', self._slope(runner))

    def before_val(self, runner: Runner) -> None:
        """Says which function is evaluated."""
        slope = self._slope(runner)
        if slope < 1.0:
            runner.logger.info(
                f'Evaluating at act_learn={slope:.3f}: with the leaky ReLU inside the pairs of '
                'convolutions, as they are trained now; not the network that is shipped.'
            )

    before_test = before_val

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes a slope below 1 beside the weights it belongs to."""
        model = detector_of(runner)
        for name, module in model.named_modules():
            if isinstance(module, VanillaNet) and module.act_learn < 1.0:
                prefix = f'{name}.' if name else ''
                checkpoint['state_dict'][f'{prefix}act_learn'] = torch.tensor(module.act_learn)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Merges the model before weights of the merged form are loaded."""
        names = checkpoint.get('state_dict') or ()
        if self.merge_begin is not None and any('.merged.' in name for name in names):
            # The weights that are overwritten now need not be fusible.
            for net in self._backbones(runner):
                if not net.is_merged:
                    net.set_act_learn(1.0)
            self._merge(runner)

    def _backbones(self, runner: Runner) -> list[VanillaNet]:
        return _backbones(detector_of(runner))

    def _slope(self, runner: Runner) -> float:
        return min((net.act_learn for net in self._backbones(runner)), default=1.0)

    def _resolve(self, runner: Runner) -> None:
        """Turns shares of the training into epochs or iterations, and checks them."""
        loop = runner.train_loop
        unit = 'epochs' if self.by_epoch else 'iterations'
        if self.by_epoch and not isinstance(loop, EpochBasedTrainLoop):
            raise DeepTrainingError(
                f'DeepTrainingHook counts epochs, but {type(loop).__name__} counts iterations: '
                'set by_epoch=False, and end (and merge_begin) in iterations.'
            )
        length = loop.max_epochs if self.by_epoch else loop.max_iters
        resolved = {}
        for name in ('end', 'merge_begin'):
            value = getattr(self, name)
            if value is not None and value < 1:
                value *= length
            if value is not None and value > length - 1:
                raise DeepTrainingError(
                    f'DeepTrainingHook: {name}={value:g} {unit} is not before the end of the '
                    f'training, {length} {unit}: act_learn would not reach 1, and the model could '
                    'not be fused. Choose a smaller one (the authors take the first third).'
                )
            resolved[name] = value
        self._end, self._merge_begin = resolved['end'], resolved['merge_begin']
        if self._merge_begin is not None:
            _check_order(self._end, self._merge_begin)
            if isinstance(runner, FlexibleRunner):
                raise DeepTrainingError(
                    'DeepTrainingHook: merge_begin exchanges parameters, which strategies of '
                    'FlexibleRunner do not allow: leave it out, or use the default runner.'
                )
        if not self._backbones(runner):
            raise DeepTrainingError(
                f'DeepTrainingHook: no VanillaNet in {type(detector_of(runner)).__name__}; drop '
                'the hook (default_hooks.deep_training=None) or use that backbone.'
            )

    def _is_pretrained(self, runner: Runner) -> bool:
        init_cfgs = [getattr(m, 'init_cfg', None) for m in detector_of(runner).modules()]
        named = any(pretrained_entry(init_cfg) is not None for init_cfg in init_cfgs)
        return named or (runner._load_from is not None and not runner._resume)

    def _update(self, runner: Runner, progress: int) -> None:
        if self.enabled:
            slope = deep_training_slope(progress, self._end, self.mode)
            for net in self._backbones(runner):
                if not net.is_merged:
                    net.set_act_learn(slope)
        if self._merge_begin is not None and progress >= self._merge_begin:
            self._merge(runner)

    def _merge(self, runner: Runner) -> None:
        replaced = _merge_pairs(detector_of(runner))
        if not replaced:
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                average = hook.ema_model
                for net in _backbones(average):
                    net.set_act_learn(1.0)
                _merge_pairs(average)
                if average.update_buffers:
                    average.avg_parameters = average.module.state_dict()
                else:
                    average.avg_parameters = dict(average.module.named_parameters())
        if isinstance(runner.optim_wrapper, OptimWrapper):  # while testing, it is only a config
            replace_parameters(runner.optim_wrapper.optimizer, replaced)
            if is_model_wrapper(runner.model):
                # A distributed wrapper holds the parameters that it averages the gradients of.
                detector = detector_of(runner)
                runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), detector)
        runner.logger.info(
            f'Merged {len(replaced)} tensors of the pairs of convolutions into '
            f'{sum(new is not None for new in replaced.values())}, which train on.'
        )


def _check_order(end: float, merge_begin: float) -> None:
    if merge_begin < end:
        raise DeepTrainingError(
            f'merge_begin={merge_begin:g} is before end={end:g}: the convolutions can be merged '
            'only once act_learn is 1.'
        )


def _backbones(model: nn.Module) -> list[VanillaNet]:
    return [module for module in model.modules() if isinstance(module, VanillaNet)]


def _merge_pairs(model: nn.Module) -> dict[nn.Parameter, nn.Parameter | None]:
    replaced = {}
    for net in _backbones(model):
        replaced.update(net.merge_pairs())
    return replaced
