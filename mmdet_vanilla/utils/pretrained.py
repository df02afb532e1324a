"""The weights that a training begins with: which ones a config names, and how to begin without."""

from __future__ import annotations

import glob
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from urllib.parse import urlparse

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import nn

from .checkpoint import CheckpointError, fetch_checkpoint
from .config_types import kind_of
from .errors import UserError

# In place of an address: the ImageNet weights that the authors of the backbone publish for the
# variant that the config builds, whichever that is.
AUTHORS = 'authors'

# What lets every layer of a backbone learn, by the names that mmdet's and mmpretrain's have for it.
_UNFROZEN = dict(frozen_stages=-1, norm_eval=False)
# Where mmengine's and our optimizer constructors lower the learning rate towards the input.
_LAYER_DECAY = ('layer_decay_rate', 'decay_rate')


class InitialWeightsError(UserError, ValueError):
    """The weights that a training is to begin with are not there."""


def pretrained_entry(init_cfg: object) -> Mapping | None:
    """The ``Pretrained`` entry of an ``init_cfg``, which may be a list; ``None`` if it has none."""
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return next((entry for entry in entries if _is_pretrained(entry)), None)


def _is_pretrained(entry: object) -> bool:
    return isinstance(entry, Mapping) and kind_of(entry) in ('Pretrained', 'PretrainedInit')


def iter_pretrained(cfg: object) -> Iterator[tuple[dict, str]]:
    """Every part of a model's config that begins with weights from a file, and which file."""
    if isinstance(cfg, Mapping):
        entry = pretrained_entry(cfg.get('init_cfg'))
        if entry is not None:
            yield cfg, entry['checkpoint']
        if isinstance(cfg.get('pretrained'), str):
            yield cfg, cfg['pretrained']
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from iter_pretrained(value)


def remove_pretrained(
    cfg: object, unfreeze: bool = False, path: str = 'model', is_backbone: bool = False
) -> list[str]:
    """Removes ``Pretrained`` initialisation from a nested config, in place.

    Args:
        cfg: Config of a model.
        unfreeze: Whether to let backbones, and what else was initialised from a file, learn as a
            whole (``frozen_stages``, ``norm_eval``, ``norm_cfg.requires_grad``; also where those
            are only the default of the class): random weights that are frozen stay random.
        path: Where ``cfg`` stands, for what is returned.
        is_backbone: Whether ``cfg`` is a backbone's.

    Returns:
        What was changed, in words.
    """
    changes = []
    if isinstance(cfg, dict):
        init = cfg.get('init_cfg')
        entries = init if isinstance(init, (list, tuple)) else [init]
        kept = [entry for entry in entries if not _is_pretrained(entry)]
        removed = len(kept) < len(entries)
        if removed:
            cfg['init_cfg'] = kept or None
            changes.append(f'{path}.init_cfg Pretrained removed')
        if isinstance(cfg.get('pretrained'), str):
            cfg['pretrained'] = None
            removed = True
            changes.append(f'{path}.pretrained removed')
        if unfreeze and (removed or is_backbone):
            changes += _unfreeze(cfg, path)
        items = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        items = enumerate(cfg)
    else:
        return changes
    for key, value in items:
        changes += remove_pretrained(value, unfreeze, f'{path}.{key}', key == 'backbone')
    return changes


def _unfreeze(cfg: dict, path: str) -> list[str]:
    changes = []
    for key, value in _UNFROZEN.items():
        current = cfg.get(key, _default(cfg, key))
        if current not in (None, value):
            changes.append(f'{path}.{key} {current} -> {value}')
            cfg[key] = value
    norm = cfg.get('norm_cfg')
    if isinstance(norm, dict) and not norm.get('requires_grad', True):
        changes.append(f'{path}.norm_cfg.requires_grad False -> True')
        norm['requires_grad'] = True
    return changes


def _class_of(cfg: Mapping) -> type | None:
    """The class that a part of a model's config builds; ``None`` if it is not registered."""
    from mmdet.registry import MODELS

    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.get(kind)


def _default(cfg: Mapping, argument: str) -> object:
    """Default of a constructor's argument, which may be a base class's; ``None`` without one."""
    for base in inspect.getmro(_class_of(cfg) or object):
        if '__init__' not in vars(base):
            continue
        parameter = inspect.signature(base.__init__).parameters.get(argument)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


def start_from_scratch(cfg: Config) -> list[str]:
    """Makes a training begin with random weights, in place.

    No file is named any more, no layer is frozen around weights that would have come from one, and
    the backbone has the learning rate of the rest: what is a tenth or a hundredth of it for weights
    that are good already leaves random ones as they are. ``DeepTrainingHook``, where the config has
    it, sees no pretrained weights and runs its schedule.

    Args:
        cfg: Config of a training.

    Returns:
        What was changed, in words.
    """
    changes = remove_pretrained(cfg.model, unfreeze=True)
    if cfg.get('load_from'):
        changes.append('load_from removed')
        cfg.load_from = None
    options = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
    for key, entry in (options.get('custom_keys') or {}).items():
        if 'backbone' in key and entry.get('lr_mult', 1) < 1:
            changes.append(f'learning rate of {key} x{entry["lr_mult"]} -> x1')
            entry['lr_mult'] = 1.0
    for key in _LAYER_DECAY:
        if options.get(key, 1) < 1:
            changes.append(f'{key} {options[key]} -> 1')
            options[key] = 1.0
    return changes


def skip_pretrained(model: nn.Module | dict) -> None:
    """Lets a model that a whole checkpoint is loaded into look for no other weights, in place.

    Args:
        model: The model, or the config that it will be built from.
    """
    if not isinstance(model, nn.Module):
        remove_pretrained(model)
        return
    for module in model.modules():
        entries = getattr(module, 'init_cfg', None)
        if pretrained_entry(entries) is not None:
            entries = entries if isinstance(entries, (list, tuple)) else [entries]
            module.init_cfg = [entry for entry in entries if not _is_pretrained(entry)] or None


def fetch_pretrained(source: str) -> dict:
    """Reads a file that an ``init_cfg`` names.

    Args:
        source: Path, URL, or a name of mmengine's such as ``torchvision://resnet50``.

    Raises:
        UserError: If it cannot be had or read.
    """
    if '://' in source and urlparse(source).scheme not in ('http', 'https'):
        return CheckpointLoader.load_checkpoint(source, map_location='cpu')
    return fetch_checkpoint(source)


def fetch_authors_weights(url: str) -> dict:
    """Reads a file of a backbone's authors, which is downloaded once.

    A copy in torch's hub cache is used also under its plain name, which is where the authors' own
    code leaves it and where a person would put it.

    Args:
        url: Its address.

    Raises:
        InitialWeightsError: If it is not there and cannot be downloaded.
        CheckpointError: If it cannot be read.
    """
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = os.path.basename(urlparse(url).path)
    plain = os.path.join(folder, name)
    if os.path.isfile(plain):
        return fetch_checkpoint(plain)
    try:
        return fetch_checkpoint(url)
    except CheckpointError as error:
        if glob.glob(os.path.join(glob.escape(folder), f'*-{name}')):  # it is there and unreadable
            raise
        reason = error.__context__ or error
        raise InitialWeightsError(
            f'{url}, the weights that the backbone begins with, cannot be downloaded ({reason}): '
            f'download it elsewhere and put it to {plain}, or train without it by --from-scratch.'
        ) from None


def prepare_initial_weights(
    cfg: Config, resumed: bool = False, from_scratch: bool = False
) -> list[str]:
    """Settles, before anything is built, what a training begins with.

    A backbone of this package that no weights are named for begins from scratch in any case
    (:func:`start_from_scratch`). Files that will be needed are downloaded and looked into now; none
    is where ``load_from`` or a checkpoint to resume from fills the model.

    Args:
        cfg: Config of a training, changed in place.
        resumed: Whether a checkpoint of this training is there to go on from.
        from_scratch: Whether to begin with random weights, whatever the config names.

    Returns:
        What was changed in the config, in words.

    Raises:
        UserError: If weights are missing, do not fit, or ``from_scratch`` contradicts the config.
    """
    named = list(iter_pretrained(cfg.model))
    if from_scratch and cfg.get('load_from'):
        raise InitialWeightsError(
            f'--from-scratch and load_from={cfg.load_from} contradict each other: leave one out.'
        )
    if from_scratch or not (named or cfg.get('load_from') or _authors_class(cfg) is None):
        return start_from_scratch(cfg)
    # Processes of one machine share a cache, and meet when they are joined, after this.
    if not resumed and not cfg.get('load_from') and os.environ.get('LOCAL_RANK', '0') == '0':
        for part, source in named:
            _check_pretrained(part, source)
    return []


def _authors_class(cfg: Config) -> type | None:
    """Class of the backbone, if it is one whose authors' weights this package knows."""
    backbone = cfg.model.get('backbone')
    kind = _class_of(backbone) if isinstance(backbone, Mapping) else None
    return kind if hasattr(kind, 'authors_url') else None


def _check_pretrained(part: dict, source: str) -> None:
    from mmdet.registry import MODELS

    if not hasattr(_class_of(part), 'authors_url'):
        if urlparse(source).scheme in ('', 'http', 'https'):
            fetch_pretrained(source)
        return
    # Without memory: what is compared are names and shapes.
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        backbone = MODELS.build(part)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*meta parameter')
        backbone.load_pretrained()
