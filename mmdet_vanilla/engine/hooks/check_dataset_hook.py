"""Stops before training or evaluation on data that does not fit the model."""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmdet.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmdet_vanilla.utils.errors import UserError

from .detector_of import detector_of


class DatasetError(UserError, ValueError):
    """A data set cannot be used with the model."""


def check_dataset(dataset: BaseDataset, model: nn.Module, name: str) -> None:
    """Checks that a data set holds images and has the classes of the model.

    Args:
        dataset: A data set, or a wrapper of one with ``metainfo``.
        model: A detector whose ``bbox_head`` has ``num_classes``; others are not checked.
        name: Which data set it is, for the message.

    Raises:
        DatasetError: If it has no image, or another number of classes than the model.
    """
    where = getattr(dataset, 'ann_file', type(dataset).__name__)
    if len(dataset) == 0:
        raise DatasetError(
            f'the {name} data set ({where}) holds no image to use: check ann_file, data_prefix '
            'and filter_cfg, and that metainfo.classes are the names in the annotation file.'
        )
    classes = dataset.metainfo.get('classes')
    num_classes = getattr(getattr(model, 'bbox_head', None), 'num_classes', None)
    if classes is None or num_classes is None:
        return
    if isinstance(classes, str):
        raise DatasetError(
            f'metainfo.classes of the {name} data set is the string {classes!r}: write a tuple, '
            f'({classes!r},) for one class.'
        )
    if len(classes) != num_classes:
        raise DatasetError(
            f'the {name} data set ({where}) has {len(classes)} classes, but the model was built '
            f'for {num_classes}: set model.bbox_head.num_classes={len(classes)}, or the '
            "data set's metainfo.classes."
        )
    numbers = getattr(dataset, 'cat_ids', None)
    if isinstance(dataset, CocoDataset) and len(numbers) != len(classes):
        raise DatasetError(
            f'the annotations of the {name} data set ({where}) have {len(numbers)} categories '
            f'with the names of metainfo.classes, which are {len(classes)}: mmdet counts those in '
            'the file, so that labels would be mixed up. Name the categories of the file in its '
            'order, or give the data by --data, which puts them right.'
        )


@HOOKS.register_module()
class CheckDatasetHook(Hook):
    """Runs :func:`check_dataset` on every data set of a run before its first iteration."""

    def before_run(self, runner: Runner) -> None:
        """Checks the data sets of the loops that this run has built."""
        model = detector_of(runner)
        loops = dict(
            training=runner._train_loop, validation=runner._val_loop, test=runner._test_loop
        )
        for name, loop in loops.items():
            if isinstance(loop, BaseLoop):
                check_dataset(loop.dataloader.dataset, model, name)
                if len(loop.dataloader) == 0:
                    raise DatasetError(
                        f'the {name} data set has {len(loop.dataloader.dataset)} images, too few '
                        'for a single batch: set a smaller batch_size, or drop_last=False, in its '
                        'data loader.'
                    )
