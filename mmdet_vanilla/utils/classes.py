"""Class names: where a checkpoint has them, and what of a config and of weights depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor

from .convert import CLASS_EMBED, CLASS_LAYERS
from .preflight import PreflightError, iter_datasets
from .weights import meta_of


def classes_of(checkpoint: Mapping) -> tuple[str, ...] | None:
    """Names of the classes of a checkpoint, in the order of the labels.

    Args:
        checkpoint: Contents of the file.

    Returns:
        The names; ``None`` where it holds none.
    """
    meta = meta_of(checkpoint).get('dataset_meta')
    names = (meta.get('classes') or meta.get('CLASSES')) if isinstance(meta, Mapping) else None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None


def config_classes(cfg: Config, mode: str = 'test') -> tuple[str, ...] | None:
    """Names of the classes of a config's data; ``None`` where it does not tell.

    Args:
        cfg: The config.
        mode: ``'train'``, ``'val'`` or ``'test'``.
    """
    for dataset in iter_datasets((cfg.get(f'{mode}_dataloader') or {}).get('dataset')):
        names = (dataset.get('metainfo') or {}).get('classes')
        if names:
            return (names,) if isinstance(names, str) else tuple(names)
        if str(dataset.get('type', '')).endswith('CocoDataset'):
            from mmdet.datasets import CocoDataset

            return CocoDataset.METAINFO['classes']
    return None


def apply_classes(cfg: Config, classes: Sequence[str]) -> None:
    """Sets names and number of the classes, in place: of all heads, and of all data sets.

    From there they reach denoising queries, metrics, pictures and checkpoints.

    Args:
        cfg: Config of a detector.
        classes: The names.

    Raises:
        PreflightError: If no head of the model has ``num_classes``.
    """
    from mmdet_vanilla.visualization import palette

    heads = list(_heads(cfg.model))
    if not heads:
        raise PreflightError(
            f'model {cfg.model.get("type")} has no head with num_classes: its number of classes '
            f'cannot be set to {len(classes)}.'
        )
    for head in heads:
        head['num_classes'] = len(classes)
    metainfo = dict(classes=tuple(classes), palette=palette(len(classes)))
    for mode in ('train', 'val', 'test'):
        for dataset in iter_datasets((cfg.get(f'{mode}_dataloader') or {}).get('dataset')):
            dataset['metainfo'] = metainfo
    if cfg.get('metainfo'):
        cfg.metainfo = metainfo


def apply_checkpoint_classes(cfg: Config, checkpoint: Mapping) -> tuple[str, ...] | None:
    """:func:`apply_classes` with a checkpoint's, unless the config has the same.

    Args:
        cfg: Config of a detector, changed in place.
        checkpoint: Contents of a checkpoint.

    Returns:
        The checkpoint's names, ``None`` where it holds none.
    """
    classes = classes_of(checkpoint)
    if classes is not None and classes != config_classes(cfg):
        apply_classes(cfg, classes)
    return classes


def _heads(part: object, is_head: bool = True) -> Iterator[dict]:
    """Parts of a model that have ``num_classes``: the model itself and its heads."""
    if isinstance(part, (list, tuple)):
        for item in part:
            yield from _heads(item, is_head)
    elif isinstance(part, dict):
        if is_head and 'num_classes' in part:
            yield part
        for name, item in part.items():
            # A region proposal network knows objects, not classes.
            if name.endswith('head') and name != 'rpn_head':
                yield from _heads(item)


class _Layout(NamedTuple):
    """How the rows of a tensor belong to classes."""

    per_class: int
    background: bool = False  # a row after the classes, as often as a class has one
    adjacent: bool = False  # the rows of a class follow each other

    def rows(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Rows of each class (num_classes, per_class), and of the background (any)."""
        if self.adjacent:
            rows = torch.arange(num_classes * self.per_class).view(num_classes, -1)
        else:
            rows = torch.arange((num_classes + self.background) * self.per_class)
            rows = rows.view(self.per_class, -1).T
        return rows[:num_classes], rows[num_classes:]


def _layout(name: str, num_rows: tuple[int, int], num_classes: tuple[int, int]) -> _Layout | None:
    """Layout of a tensor whose number of rows goes from one to the other with that of classes."""
    if num_classes[0] == num_classes[1]:
        if not name.startswith((*CLASS_LAYERS, CLASS_EMBED)) or num_rows[0] != num_rows[1]:
            return None
        per_class = 1
    else:
        per_class, rest = divmod(num_rows[0] - num_rows[1], num_classes[0] - num_classes[1])
        if per_class < 1 or rest:
            return None
    extra = num_rows[0] - per_class * num_classes[0]
    if extra in (0, per_class) and (per_class == 1 or 'cls' in name):
        return _Layout(per_class, background=extra > 0)
    if extra == 0 and 'reg' in name:
        return _Layout(per_class, adjacent=True)
    return None


def transfer_class_rows(
    state: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    old_classes: Sequence[str],
    new_classes: Sequence[str],
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Weights for other classes: what was learnt of a class goes where its name is now.

    What depends on classes is told by the number of rows, which changes with that of the classes;
    with as many classes as before, by the names of RT-DETR's layers. How the rows lie is mmdet's
    convention: a row for each class and at most one more at the end, for the background; in layers
    named ``cls`` the same for each of several anchors; in layers named ``reg`` the four of a box
    for each class. Anything else (YOLOv3's rows for box and objectness, say) is left as it is.

    Args:
        state: Tensors by name, of a detector.
        new: The same of the model for the new classes, as it was initialised.
        old_classes: Names of the classes of ``state``, in the order of the rows.
        new_classes: Names of the classes of ``new``.

    Returns:
        ``state`` with the tensors that depend on classes in the form of ``new``: rows of classes
        with a known name from ``state``, the others from ``new``; the names of those tensors; and
        the known names of classes.
    """
    old_number = {name: number for number, name in enumerate(old_classes)}
    known = [name for name in new_classes if name in old_number]
    source = torch.tensor([old_number[name] for name in known], dtype=torch.long)
    target = torch.tensor([new_classes.index(name) for name in known], dtype=torch.long)
    result = dict(state)
    moved = []
    for name, tensor in state.items():
        if name not in new or tensor.dim() == 0 or tensor.shape[1:] != new[name].shape[1:]:
            continue
        number = (len(old_classes), len(new_classes))
        layout = _layout(name, (len(tensor), len(new[name])), number)
        if layout is None:
            continue
        (old_rows, old_rest), (new_rows, new_rest) = (layout.rows(n) for n in number)
        rows = new[name].detach().clone()
        rows[new_rows[target]] = tensor[old_rows[source]].to(rows)
        rows[new_rest] = tensor[old_rest].to(rows)
        result[name] = rows
        moved.append(name)
    return result, moved, known
