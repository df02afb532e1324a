"""Sorts a model's parameters into a few groups of equal learning rate and weight decay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import NamedTuple

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn
from torch.nn import GroupNorm, LayerNorm

from mmdet_vanilla.utils.errors import UserError

_NORMS = (_BatchNorm, _InstanceNorm, GroupNorm, LayerNorm)
_DECAY_OPTIONS = ('norm_decay_mult', 'bias_decay_mult')
_OPTIONS = (*_DECAY_OPTIONS, 'custom_keys', 'layer_decay_rate', 'bypass_duplicate')
_ENTRY_OPTIONS = ('lr_mult', 'decay_mult')
# What wrappers put in the middle of a parameter's name.
_WRAPPER_NAMES = ('_fsdp_wrapped_module.', '_checkpoint_wrapped_module.')


class _NamedParameter(NamedTuple):
    name: str
    param: nn.Parameter
    module: nn.Module  # that it belongs to


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParamGroupOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Groups of parameters for the recipes of RT-DETR and of VanillaNet.

    It takes mmengine's ``paramwise_cfg`` with these differences:

    - A ``custom_keys`` entry without ``decay_mult`` leaves the rules for norms and biases in force.
      mmengine's switches them off, so that a slower backbone would have its norms decayed.
    - Every parameter whose name ends in ``bias`` is a bias, ``in_proj_bias`` of an attention too.
    - A key that matches no parameter and an unknown option are errors.
    - Parameters of equal learning rate and weight decay share one group, which the optimizer
      updates in a few fused calls. Groups come in the order of their first parameter.
    - Shared parameters are taken once.
    - Learning rates can fall towards the input of the backbone (``layer_decay_rate``).

    Weight decay is multiplied by the first that there is of: ``decay_mult`` of the matching
    ``custom_keys`` entry, ``norm_decay_mult``, ``bias_decay_mult``, 1.
    Parameters that do not require a gradient are left out. Groups are fixed once built, since
    mmengine's schedules keep the base values of every group by its position.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, with ``optimizer``, which states ``lr``.
        paramwise_cfg: Options, all of them optional. With none there is mmengine's single group.

            - ``custom_keys``: dict from a part of a parameter's name to ``dict(lr_mult=...,
              decay_mult=...)``, factors >= 0. The longest key that matches counts, of several
              that long the first in alphabetical order.
            - ``norm_decay_mult``: factor of the weight decay of normalisation layers.
            - ``bias_decay_mult``: factor of the weight decay of biases.
            - ``layer_decay_rate``: in (0, 1]. Multiplies the learning rate by ``rate **
              (num_layers - depth - 1)``, where ``depth, num_layers =
              model.backbone.get_layer_depth(name, prefix='backbone.')``; 1 outside the backbone.
              As in VanillaNet's detection recipe and in mmpretrain's backbones.
            - ``bypass_duplicate``: True or left out, for configs written for mmengine's.

    Raises:
        UserError: For options that are unknown, out of range or do not fit the model.

    Example:
        >>> from torch import nn
        >>> model = nn.ModuleDict(dict(backbone=nn.Conv2d(3, 8, 1), norm=nn.BatchNorm2d(8)))
        >>> wrapper = ParamGroupOptimWrapperConstructor(
        ...     dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1)),
        ...     dict(custom_keys=dict(backbone=dict(lr_mult=0.5)), norm_decay_mult=0),
        ... )(model)
        >>> groups = wrapper.optimizer.param_groups
        >>> [(g['lr'], g['weight_decay'], len(g['params'])) for g in groups]
        [(0.005, 0.1, 2), (0.01, 0.0, 2)]
    """

    def _validate_cfg(self) -> None:
        options = self.paramwise_cfg
        _refuse_unknown(options, _OPTIONS, 'paramwise_cfg')
        factors = {key: options[key] for key in _DECAY_OPTIONS if key in options}
        for key, entry in options.get('custom_keys', {}).items():
            where = f'custom_keys[{key!r}]'
            if not isinstance(entry, Mapping):
                raise UserError(f'{where}={entry!r}: expected a dict such as dict(lr_mult=0.1).')
            _refuse_unknown(entry, _ENTRY_OPTIONS, where)
            factors.update({f'{where}.{name}': value for name, value in entry.items()})
        for name, value in factors.items():
            if not isinstance(value, Real) or value < 0:
                raise UserError(f'{name}={value!r}: expected a factor of 0 or more.')
        rate = options.get('layer_decay_rate', 1.0)
        if not isinstance(rate, Real) or not 0 < rate <= 1:
            raise UserError(
                f'layer_decay_rate={rate!r}: expected a number above 0 and at most 1 (1 for equal '
                'learning rates, 0.6 in the detection recipe of VanillaNet).'
            )
        if not options.get('bypass_duplicate', True):
            raise UserError('bypass_duplicate=False: shared parameters are always taken once.')
        if options and self.base_lr is None:
            raise UserError('paramwise_cfg needs the learning rate: set optimizer.lr.')
        if self.base_wd is None and any('decay_mult' in name for name in factors):
            raise UserError(
                f'{", ".join(factors)} need the weight decay: set optimizer.weight_decay.'
            )
        super()._validate_cfg()

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Adds the groups of a model.

        Args:
            params: List of groups, extended in place.
            module: The model.
            **kwargs: Of mmengine's recursion, which this method does not need.

        Raises:
            UserError: If a key matches no parameter, or ``layer_decay_rate`` meets a backbone that
                does not number its layers.
        """
        named = list(_named_parameters(module))
        self._check_keys(named, module)
        layer_scale = self._layer_scale(module)
        groups: dict[tuple, list[_NamedParameter]] = {}
        for item in named:
            if not item.param.requires_grad:
                continue
            entry = self._entry(item.name)
            lr = self.base_lr * entry.get('lr_mult', 1.0) * layer_scale(item.name)
            decay = None
            if self.base_wd is not None:
                decay = self.base_wd * self._decay_mult(item, entry)
            groups.setdefault((lr, decay), []).append(item)
        for (lr, decay), items in groups.items():
            group = dict(params=[item.param for item in items], lr=lr)
            if decay is not None:
                group['weight_decay'] = decay
            params.append(group)
        _log_groups(groups)

    def _check_keys(self, named: list[_NamedParameter], model: nn.Module) -> None:
        keys = self.paramwise_cfg.get('custom_keys', {})
        unmatched = [key for key in keys if not any(key in item.name for item in named)]
        if unmatched:
            children = ', '.join(name for name, _ in model.named_children())
            raise UserError(
                f'paramwise_cfg.custom_keys: {", ".join(map(repr, unmatched))} is part of no '
                f"parameter's name. The model's parts are {children}; names look like "
                f'{named[0].name if named else "(there is no parameter)"}. Correct or remove it.'
            )

        trained = [item.name for item in named if item.param.requires_grad]
        frozen = [key for key in keys if not any(key in name for name in trained)]
        if frozen:
            print_log(
                f'paramwise_cfg.custom_keys: {", ".join(map(repr, frozen))} matches only '
                'parameters that are frozen, and has no effect.',
                logger='current',
                level=logging.WARNING,
            )

    def _entry(self, name: str) -> Mapping:
        keys = self.paramwise_cfg.get('custom_keys', {})
        key = min((key for key in keys if key in name), key=lambda k: (-len(k), k), default=None)
        return {} if key is None else keys[key]

    def _decay_mult(self, item: _NamedParameter, entry: Mapping) -> float:
        if 'decay_mult' in entry:
            return entry['decay_mult']
        rules = (
            ('norm_decay_mult', isinstance(item.module, _NORMS)),
            ('bias_decay_mult', item.name.endswith('bias')),
        )
        for option, applies in rules:
            if applies and option in self.paramwise_cfg:
                return self.paramwise_cfg[option]
        return 1.0

    def _layer_scale(self, model: nn.Module) -> Callable[[str], float]:
        """The function from a parameter's name to the factor of its learning rate."""
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if rate is None:
            return lambda name: 1.0
        backbone = getattr(model, 'backbone', None)
        get_depth = getattr(backbone, 'get_layer_depth', None)
        if get_depth is None:
            found = 'no backbone' if backbone is None else type(backbone).__name__
            raise UserError(
                'layer_decay_rate needs model.backbone with a method get_layer_depth(name, prefix) '
                f"-> (depth, num_layers), as VanillaNet and mmpretrain's backbones have; the model "
                f'has {found}. Leave layer_decay_rate out.'
            )

        def scale(name: str) -> float:
            if not name.startswith('backbone.'):
                return 1.0
            depth, num_layers = get_depth(name, prefix='backbone.')
            return rate ** (num_layers - depth - 1)

        return scale


def _refuse_unknown(options: Mapping, known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UserError(
            f'{where} has unknown options {", ".join(map(repr, unknown))}: '
            f'ParamGroupOptimWrapperConstructor knows {", ".join(known)}.'
        )


def _named_parameters(model: nn.Module) -> Iterator[_NamedParameter]:
    """Every parameter once, by its first name, without what wrappers add to it."""
    seen = set()
    for prefix, module in model.named_modules():
        for name, param in module.named_parameters(prefix, recurse=False):
            if param in seen:
                continue
            seen.add(param)
            for part in _WRAPPER_NAMES:
                name = name.replace(part, '')
            yield _NamedParameter(name, param, module)


@master_only
def _log_groups(groups: Mapping[tuple, list[_NamedParameter]]) -> None:
    lines = ['Parameter groups:', f'{"lr":>10} {"decay":>10} {"tensors":>8}  for example']
    for (lr, decay), items in groups.items():
        names = ', '.join(item.name for item in items[:2])
        decay = '-' if decay is None else f'{decay:.4g}'
        lines.append(f'{lr:>10.4g} {decay:>10} {len(items):>8}  {names}')
    print_log('\n'.join(lines), logger='current')
