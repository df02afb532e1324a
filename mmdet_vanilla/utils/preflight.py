"""Checks what a run needs before anything is built."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from .config_types import kind_of
from .errors import UserError

# Reading COCO's own 450 MB annotation file twice would cost more than it saves.
_LARGEST_ANNOTATION_READ = 50_000_000

_MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)

_COCO_HINT = (
    'To get COCO, unpack the archives of https://cocodataset.org/#download to data/coco '
    '(annotations/, train2017/, val2017/). To train on other data in COCO format, set data_root, '
    'ann_file, data_prefix and metainfo.classes of the dataloaders, val_evaluator.ann_file and '
    'model.bbox_head.num_classes, by --cfg-options or in a config of your own.'
)

# Where mmengine's AmpOptimWrapper runs.
_AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')
_SYNC_BN = ('SyncBN', 'MMSyncBN')


class PreflightError(UserError):
    """Something that a run needs is not there or does not fit; the message says what to do."""


def require_file(path: str, what: str, hint: str = '') -> str:
    """Checks that a file exists.

    Args:
        path: Path of the file.
        what: What it is, for the message.
        hint: What to do, for the message.

    Returns:
        The path.

    Raises:
        PreflightError: If there is no such file.
    """
    if not os.path.isfile(path):
        raise PreflightError(
            f'no {what} at {path} (looked for {os.path.abspath(path)}). {hint}'.strip()
        )
    return path


def write_obstacle(folder: str | os.PathLike) -> str | None:
    """Makes a folder, and tells why nothing can be written to it; ``None`` if it can."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror


def require_writable_folder(path: str | os.PathLike, option: str) -> None:
    """Makes a folder, so that what takes long is not done for results that cannot be written.

    Args:
        path: Path of the folder.
        option: That names it, for the message.

    Raises:
        PreflightError: If it cannot be made or written to.
    """
    reason = write_obstacle(path)
    if reason:
        raise PreflightError(
            f'{option} {path}: expected a folder to write to, but: {reason}. Name another one.'
        )


def load_config(path: str, cfg_options: dict | None = None) -> Config:
    """Loads a config file and applies overrides.

    Args:
        path: Path of the config.
        cfg_options: Overrides, dotted keys to values.

    Returns:
        The config.

    Raises:
        PreflightError: If there is no such file or no such base, one is not Python, or an override
            does not fit.
    """
    require_file(path, 'config', 'The configs of this project are the files configs/*_*.py.')
    try:
        cfg = Config.fromfile(path)
    except (FileNotFoundError, SyntaxError) as error:  # of a base, or in one
        raise PreflightError(f'{path} cannot be read: {error}.') from None
    merge_cfg_options(cfg, cfg_options, path)
    return cfg


def merge_cfg_options(cfg: Config, cfg_options: dict | None, path: str) -> None:
    """Applies overrides, in place. A hook that is ``None`` is left out.

    Args:
        cfg: The config.
        cfg_options: Overrides, dotted keys to values.
        path: Of the config, for messages.

    Raises:
        PreflightError: If an override does not fit.
    """
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError) as error:
            raise PreflightError(f'--cfg-options does not fit {path}: {error}') from None
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        # mmengine lets only its own be switched off this way.
        if name not in _MMENGINE_HOOKS:
            del hooks[name]


def check_data_files(cfg: Config, modes: tuple[str, ...]) -> None:
    """Checks that the data sets of a config are there, not empty, and have the model's classes.

    Data on remote backends and data sets without ``ann_file`` are not looked at.

    Args:
        cfg: Config of a run.
        modes: Which of ``'train'``, ``'val'`` and ``'test'`` will run.

    Raises:
        PreflightError: If something is missing or does not fit.
    """
    num_classes = cfg.get('model', {}).get('bbox_head', {})
    num_classes = num_classes.get('num_classes') if isinstance(num_classes, dict) else None
    seen = set()
    for mode in modes:
        for dataset in iter_datasets((cfg.get(f'{mode}_dataloader') or {}).get('dataset')):
            ann_file = dataset.get('ann_file')
            root = dataset.get('data_root') or ''
            if not ann_file or dataset.get('backend_args') or '://' in root + ann_file:
                continue
            ann_file = os.path.join(root, ann_file)
            if ann_file in seen:
                continue
            seen.add(ann_file)
            require_file(ann_file, f'annotation file of the {mode} data', _COCO_HINT)
            for prefix in (dataset.get('data_prefix') or {}).values():
                folder = os.path.join(root, prefix)
                if not os.path.isdir(folder):
                    raise PreflightError(
                        f'no image folder of the {mode} data at {folder} (looked for '
                        f'{os.path.abspath(folder)}). {_COCO_HINT}'
                    )
            if str(dataset.get('type', '')).endswith('CocoDataset'):
                _check_coco(ann_file, dataset, mode, num_classes)


def enable_amp(cfg: Config) -> None:
    """Sets a run to mixed precision, in place.

    Args:
        cfg: Config of a run.

    Raises:
        PreflightError: If the strategy of the config sets its own precision.
    """
    strategy = kind_of(cfg.get('strategy'))
    if strategy.startswith('DeepSpeed'):
        raise PreflightError(
            f'--amp does not go with {strategy}, which has its own mixed precision: set '
            'strategy.bf16.enabled=True or strategy.fp16.enabled=True instead.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'
    if strategy.startswith('FSDP'):
        cfg.optim_wrapper.use_fsdp = True


def check_amp_device(cfg: Config) -> None:
    """Checks that mixed precision, where the config has it, can run on this machine's device.

    Args:
        cfg: Config of a run.

    Raises:
        PreflightError: If it cannot; mmengine would say so after the model has been built.
    """
    if kind_of(cfg.get('optim_wrapper')) == 'AmpOptimWrapper' and (
        get_device() not in _AMP_DEVICES
    ):
        raise PreflightError(
            f'mixed precision needs one of the devices {", ".join(_AMP_DEVICES)}, but this machine '
            f'has {get_device()}: leave --amp out, or set optim_wrapper.type=OptimWrapper where '
            'the config asks for it. If there is a GPU, torch does not see it: check '
            'CUDA_VISIBLE_DEVICES and that torch was installed with CUDA.'
        )


def prepare_cpu_processes(cfg: Config) -> None:
    """Lets several processes train without an accelerator; no effect with one, or on one process.

    mmengine joins processes for accelerators only. This joins them over gloo before, and, with a
    warning, replaces SyncBN, which refuses CPU tensors, by BN. On one process mmengine does that.

    Args:
        cfg: Config of a run, changed in place.

    Raises:
        PreflightError: If the launcher or the strategy needs an accelerator.
    """
    launcher = cfg.get('launcher') or 'none'
    if get_device() != 'cpu' or launcher == 'none':
        return
    strategy = kind_of(cfg.get('strategy'))
    if launcher != 'pytorch' or strategy:
        raise PreflightError(
            f'{strategy or "launcher " + launcher} needs an accelerator, but this machine has cpu: '
            'start processes without one by torchrun (tools/dist_train.sh) and without strategy.'
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    # mmengine would fill in the number of a GPU.
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    num_replaced = _replace_sync_bn(cfg.model)
    if num_replaced or cfg.get('sync_bn'):
        cfg.sync_bn = None
        print_log(
            'SyncBN needs an accelerator: BN takes its place, and every process normalises with '
            'the statistics of its own images only.',
            logger='current',
            level=logging.WARNING,
        )


def _replace_sync_bn(cfg: object) -> int:
    """Replaces SyncBN by BN in nested configs, in place; returns how many were replaced."""
    num_replaced = 0
    if isinstance(cfg, dict):
        if cfg.get('type') in _SYNC_BN:
            cfg['type'] = 'BN'
            num_replaced = 1
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        num_replaced += sum(map(_replace_sync_bn, cfg))
    return num_replaced


def iter_datasets(cfg: dict | None) -> Iterator[dict]:
    """The data sets inside wrappers (repeat, concatenation, multi-image mix)."""
    if not cfg:
        return
    inner = cfg.get('datasets') or ([cfg['dataset']] if cfg.get('dataset') else [])
    if not inner:
        yield cfg
    for dataset in inner:
        yield from iter_datasets(dataset)


def _check_coco(ann_file: str, dataset: dict, mode: str, num_classes: int | None) -> None:
    if os.path.getsize(ann_file) > _LARGEST_ANNOTATION_READ:
        return
    try:
        with open(ann_file, encoding='utf-8') as file:
            content = json.load(file)
        names = [category['name'] for category in content['categories']]
        num_images = len(content['images'])
    except (ValueError, KeyError, TypeError) as error:
        raise PreflightError(
            f'{ann_file} is not a COCO annotation file (a dict with images, annotations and '
            f'categories): {type(error).__name__} {error}.'
        ) from None
    if not num_images:
        raise PreflightError(f'the {mode} data set is empty: {ann_file} lists no image.')
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        from mmdet.datasets import CocoDataset

        classes = CocoDataset.METAINFO['classes']
    if isinstance(classes, str):
        classes = (classes,)
    if not set(classes) & set(names):
        raise PreflightError(
            f'no category of {ann_file} ({", ".join(names[:10])}) is among the classes of the '
            f'{mode} data set ({", ".join(classes[:10])}): set metainfo.classes of the '
            f'dataloaders to the names in the file, and model.bbox_head.num_classes={len(names)}.'
        )
    in_file = [name for name in names if name in set(classes)]
    if in_file != list(classes):
        raise PreflightError(
            f'the categories of {ann_file} that are among the classes of the {mode} data set are, '
            f'in the order of the file, {", ".join(in_file[:10])}; metainfo.classes are '
            f'{", ".join(classes[:10])}. mmdet numbers labels as the file does, so that they would '
            'be mixed up: set metainfo.classes to the names in the order of the file, or give the '
            'data by --data, which puts them right.'
        )
    if num_classes is not None and len(classes) != num_classes:
        raise PreflightError(
            f'the {mode} data set has {len(classes)} classes, but model.bbox_head.num_classes is '
            f'{num_classes}: set one to match the other.'
        )
