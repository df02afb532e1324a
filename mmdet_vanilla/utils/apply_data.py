"""Points a config at a user's data set."""

from __future__ import annotations

import argparse
import copy
import os

from mmengine.config import Config

from mmdet_vanilla.datasets.user_data import UserData, load_user_data

from .arguments import SPLITS
from .classes import apply_classes
from .preflight import PreflightError, iter_datasets


def load_data_arguments(
    args: argparse.Namespace, splits: tuple[str, ...], classes: tuple[str, ...] | None = None
) -> UserData | None:
    """Loads what the options of :func:`.arguments.add_data_arguments` name, and says what it is.

    Args:
        args: Of the command line.
        splits: Which splits are needed.
        classes: Names that the classes must have, in this order.

    Returns:
        The data; ``None`` without ``--data``.

    Raises:
        PreflightError: If an option does not go with the others.
        AnnotationError: If the data cannot be used.
    """
    annotations = {mode: getattr(args, f'{mode}_ann', None) for mode in SPLITS}
    if not args.data:
        given = [f'--{mode}-ann' for mode, path in annotations.items() if path]
        given += ['--img-dir'] if args.img_dir else []
        if given:
            raise PreflightError(f'{given[0]} needs --data, the folder that it is in.')
        return None
    data = load_user_data(
        args.data,
        splits,
        annotations,
        args.img_dir,
        classes,
        args.allow_outside,
        processes=os.cpu_count() or 1,
    )
    for line in data.summary():
        _say(line)
    return data


def apply_data(cfg: Config, data: UserData) -> None:
    """Points the data loaders, metrics and heads of a config at a data set, in place.

    Pipelines, batch sizes and everything else stay; a batch larger than the training data becomes
    as large as they are, and no image is left out for its size. Validation shows unreadable
    images as black ones.

    Args:
        cfg: Config of a detector.
        data: The data set. Modes whose split it lacks are left as they are.

    Raises:
        PreflightError: If the config joins several data sets, or its model has no classes.
    """
    for mode, split in data.splits.items():
        if not cfg.get(f'{mode}_dataloader'):
            continue
        # Configs let two modes share a loader.
        loader = cfg[f'{mode}_dataloader'] = copy.deepcopy(cfg[f'{mode}_dataloader'])
        datasets = list(iter_datasets(loader.get('dataset')))
        if len(datasets) != 1:
            raise PreflightError(
                f'--data replaces one data set, but {mode}_dataloader of the config has '
                f'{len(datasets)}: use a config with one.'
            )
        [dataset] = datasets
        dataset.update(
            type='RobustCocoDataset',
            data_root='',
            ann_file=split.ann_file,
            data_prefix=dict(img=split.image_dir + '/'),
            backend_args=None,
        )
        # The canonical file has no box that is not to be used, and even small images count.
        filters = dataset.get('filter_cfg') or {}
        dataset['filter_cfg'] = dict(filter_empty_gt=filters.get('filter_empty_gt', False))
        if mode == 'train':
            _fit_batch(loader, split.num_images)
        else:
            cfg[f'{mode}_evaluator'] = _evaluator(cfg.get(f'{mode}_evaluator'), split.ann_file)
    if 'val' in data.splits and cfg.get('val_dataloader'):
        next(iter_datasets(cfg.val_dataloader.dataset))['unreadable'] = 'blank'
    apply_classes(cfg, data.classes)
    queries = cfg.model.get('bbox_head', {})
    queries = queries.get('num_queries') if isinstance(queries, dict) else None
    most = max(split.most_boxes for split in data.splits.values())
    if queries and most > queries:
        _say(
            f'An image has {most} boxes, but model.bbox_head.num_queries is {queries}, so that not '
            'all can be found: raise it, and model.test_cfg.max_per_img.'
        )


def _say(text: str) -> None:
    """Prints, in one of several processes: there is no log of the run yet."""
    if os.environ.get('RANK', '0') == '0':
        print(text, flush=True)


def _fit_batch(loader: dict, num_images: int) -> None:
    processes = int(os.environ.get('WORLD_SIZE', 1))
    share = max(1, num_images // processes)
    batch_size = loader.get('batch_size') or 1
    if batch_size > share:
        _say(
            f'There are {num_images} training images: the batch size becomes {share} instead of '
            f'{batch_size}.'
        )
        loader['batch_size'] = share


def _evaluator(evaluator: dict | list | None, ann_file: str) -> dict:
    """COCO's box metric on a file, with the settings of the config's own, if it has one."""
    candidates = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for candidate in candidates:
        if candidate and str(candidate.get('type', '')).endswith('CocoMetric'):
            settings = dict(candidate)
            settings.pop('backend_args', None)
            return dict(settings, ann_file=ann_file, metric='bbox')
    return dict(type='CocoMetric', ann_file=ann_file, metric='bbox')
