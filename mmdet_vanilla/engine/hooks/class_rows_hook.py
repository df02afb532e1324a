"""Keeps what a checkpoint knows of classes that go by the same name."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdet_vanilla.utils.classes import classes_of, transfer_class_rows
from mmdet_vanilla.utils.errors import UserError

from .detector_of import detector_of

_MOST_NAMED = 10


class ClassOrderError(UserError, ValueError):
    """A checkpoint has the classes of the data in another order."""


@HOOKS.register_module()
class ClassRowsHook(Hook):
    """Compares the class names of a checkpoint with those of the data, and acts on it.

    In fine-tuning (``load_from``) the rows of the layers that depend on classes are kept for names
    that both have; the other classes start new. Which layers can be told is said at
    :func:`transfer_class_rows`; a warning names a detector where none can. In testing and resuming
    the names must be in the same order.
    """

    # Before EMAHook, which takes the weights from the checkpoint, and after ConvertCheckpointHook,
    # which is registered earlier.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Moves rows, or compares.

        Raises:
            ClassOrderError: If testing or resuming would mix classes up.
        """
        old = classes_of(checkpoint)
        fine_tuning = runner._train_loop is not None and not runner._resume
        new = _classes_of_data(runner, fine_tuning)
        if old is None or new is None or old == new:
            return
        if not fine_tuning:
            if sorted(old) == sorted(new):
                raise ClassOrderError(
                    f'{runner._load_from} has the classes {", ".join(old[:_MOST_NAMED])} in '
                    f'another order than the data, {", ".join(new[:_MOST_NAMED])}: labels would be '
                    'mixed up. Set metainfo.classes and the categories of the annotation file to '
                    "the checkpoint's order, or give the data by --data, which does."
                )
            runner.logger.warning(
                f'{runner._load_from} was trained on other class names than those of the data.'
            )
            return
        if 'state_dict' not in checkpoint:
            return
        model = detector_of(runner)
        checkpoint['state_dict'], moved, known = transfer_class_rows(
            checkpoint['state_dict'], model.state_dict(), old, new
        )
        if not moved:
            runner.logger.warning(self._nothing_kept(runner, model, len(old) == len(new)))
            return
        fresh = [name for name in new if name not in known]
        runner.logger.info(
            f'{runner._load_from} knows {len(old)} classes. Kept for {len(known)} with the same '
            f'name{_named(known)}; {len(fresh)} start new{_named(fresh)}.'
        )

    @staticmethod
    def _nothing_kept(runner: Runner, model: nn.Module, same_number: bool) -> str:
        what = f'{runner._load_from} has other classes than the data, and which weights of a '
        what += f'{type(model).__name__} belong to them cannot be told: '
        if same_number:
            return what + (
                'since there are as many, all are loaded, and each class begins with what was '
                'learnt of the one at its place. If the names are the same in another order, set '
                "metainfo.classes to the checkpoint's."
            )
        return what + 'those of another shape start new, for all classes.'


def _named(names: list[str]) -> str:
    more = ', ...' if len(names) > _MOST_NAMED else ''
    return f' ({", ".join(names[:_MOST_NAMED])}{more})' if names else ''


def _classes_of_data(runner: Runner, training: bool) -> tuple[str, ...] | None:
    for mode in ('train',) if training else ('test', 'val', 'train'):
        loop = getattr(runner, f'_{mode}_loop')
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if classes and not isinstance(classes, str):
            return tuple(classes)
    return None
