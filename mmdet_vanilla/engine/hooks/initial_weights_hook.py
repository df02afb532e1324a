"""Sees to what a training begins with: no random layer is frozen, nothing is loaded in vain."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.checkpoint import latest_checkpoint
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.pretrained import pretrained_entry, skip_pretrained

from .detector_of import detector_of


class FrozenLayersError(UserError, ValueError):
    """Layers would stay random for the whole training."""


@HOOKS.register_module()
class InitialWeightsHook(Hook):
    """Checks before training that what a backbone does not train has weights from somewhere.

    A convolution that is frozen, or a normalisation that keeps its statistics (``frozen_stages``,
    ``norm_eval``), is right around trained weights. With none, it computes nonsense from the first
    to the last epoch, and the training looks as if it went well. Weights count that ``init_cfg``
    (``Pretrained``), ``load_from`` or a checkpoint to resume from bring, and those of a backbone
    whose normalisation has statistics other than those of a new one.

    Where a whole checkpoint is loaded, files that ``init_cfg`` names are not: they would be
    downloaded and overwritten.

    Raises:
        FrozenLayersError: Before training, if there are such layers.
    """

    # Before CheckCheckpointHook, which loads weights to see whether they fit.
    priority = 'LOW'

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}

    def before_run(self, runner: Runner) -> None:
        """Forgets the files of ``init_cfg`` if a checkpoint will be loaded."""
        resumed = runner._resume and latest_checkpoint(runner.work_dir)
        if runner._load_from or resumed:
            skip_pretrained(runner.model)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes what is frozen, to see whether the checkpoint fills it."""
        if runner._train_loop is not None:
            model = detector_of(runner).train()
            self._before = {name: t.clone() for name, t in frozen_random_layers(model)}

    def before_train(self, runner: Runner) -> None:
        """Refuses layers that are frozen and random."""
        layers = frozen_random_layers(detector_of(runner).train())
        random = [
            name
            for name, tensor in layers
            if name not in self._before or torch.equal(tensor, self._before[name])
        ]
        if random:
            more = f' and {len(random) - 3} more' if len(random) > 3 else ''
            raise FrozenLayersError(
                f'{", ".join(random[:3])}{more} would stay random for the whole training: frozen '
                '(frozen_stages, norm_eval, norm_cfg.requires_grad of the backbone), and no '
                'weights are loaded into them. Name weights (model.backbone.init_cfg or '
                'load_from), or train them too (--from-scratch of tools/train.py). If the backbone '
                'loads its weights by itself: default_hooks.initial_weights=None.'
            )


def frozen_random_layers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Layers of a model's backbones that neither train nor were given weights by ``init_cfg``.

    Args:
        model: A detector in training mode.

    Yields:
        Name of a layer, and the tensor in which weights that are loaded would show.
    """
    nets = [module for module in model.modules() if isinstance(module, VanillaNet)]
    unused = {block for net in nets for block in net.unused}
    yield from _frozen_layers(model, '', unused, in_backbone=False)


def _is_new(norm: nn.Module) -> bool:
    return not norm.running_mean.any() and bool((norm.running_var == 1).all())


def _norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(getattr(m, 'running_mean', None), Tensor)]


def _frozen_layers(
    module: nn.Module, path: str, unused: set[nn.Module], in_backbone: bool
) -> Iterator[tuple[str, Tensor]]:
    if module in unused or pretrained_entry(getattr(module, 'init_cfg', None)) is not None:
        return
    mean, weight = getattr(module, 'running_mean', None), getattr(module, 'weight', None)
    if in_backbone and isinstance(mean, Tensor):
        # Other classes than torch's are there to be frozen.
        if not isinstance(module, _BatchNorm) or not module.training:
            yield path, mean
    elif in_backbone and isinstance(weight, nn.Parameter):
        if weight.dim() > 1 and not weight.requires_grad:
            yield path, weight.detach()
    for name, child in module.named_children():
        begins = name == 'backbone' and not in_backbone
        # A teacher's weights are copied from its student's; a backbone whose statistics are not
        # those of a new one has loaded its weights by itself.
        if name != 'teacher' and not (begins and not all(map(_is_new, _norms(child)))):
            name = f'{path}.{name}' if path else name
            yield from _frozen_layers(child, name, unused, in_backbone or begins)
