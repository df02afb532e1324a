"""Checks what a run needs before anything is built."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from mmengine.config import Config

from .errors import UserError

# Reading COCO's own 450 MB annotation file twice would cost more than it saves.
_LARGEST_ANNOTATION_READ = 50_000_000

_COCO_HINT = (
    'To get COCO, unpack the archives of https://cocodataset.org/#download to data/coco '
    '(annotations/, train2017/, val2017/). To train on other data in COCO format, set data_root, '
    'ann_file, data_prefix and metainfo.classes of the dataloaders, val_evaluator.ann_file and '
    'model.bbox_head.num_classes, by --cfg-options or in a config of your own.'
)


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


def load_config(path: str, cfg_options: dict | None = None) -> Config:
    """Loads a config file and applies overrides.

    Args:
        path: Path of the config.
        cfg_options: Overrides, dotted keys to values.

    Returns:
        The config.

    Raises:
        PreflightError: If there is no such file, or an override does not fit.
    """
    require_file(path, 'config', 'The configs of this project are the files configs/*_*.py.')
    cfg = Config.fromfile(path)
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError) as error:
            raise PreflightError(f'--cfg-options does not fit {path}: {error}') from None
    return cfg


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
        for dataset in _datasets((cfg.get(f'{mode}_dataloader') or {}).get('dataset')):
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


def _datasets(cfg: dict | None) -> Iterator[dict]:
    """The data sets inside wrappers (repeat, concatenation, multi-image mix)."""
    if not cfg:
        return
    inner = cfg.get('datasets') or ([cfg['dataset']] if cfg.get('dataset') else [])
    if not inner:
        yield cfg
    for dataset in inner:
        yield from _datasets(dataset)


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
    if num_classes is not None and len(classes) != num_classes:
        raise PreflightError(
            f'the {mode} data set has {len(classes)} classes, but model.bbox_head.num_classes is '
            f'{num_classes}: set one to match the other.'
        )
