"""Class names: where a checkpoint has them, and what of a config and of weights depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from mmengine.config import Config
from torch import Tensor

from .convert import CLASS_EMBED, CLASS_LAYERS
from .preflight import PreflightError, iter_datasets


def classes_of(checkpoint: Mapping) -> tuple[str, ...] | None:
    """Names of the classes of a checkpoint, in the order of the labels.

    Args:
        checkpoint: Contents of the file.

    Returns:
        The names; ``None`` where it holds none.
    """
    meta = checkpoint.get('meta')
    meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
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
            if name.endswith('head'):
                yield from _heads(item)


def transfer_class_rows(
    state: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    old_classes: Sequence[str],
    new_classes: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights for other classes: what was learnt of a class goes where its name is now.

    Args:
        state: Tensors by name, of a detector with RT-DETR's head.
        new: The same of the model for the new classes, as it was initialised.
        old_classes: Names of the classes of ``state``, in the order of the rows.
        new_classes: Names of the classes of ``new``.

    Returns:
        ``state`` with the class-dependent tensors in the form of ``new``: rows of classes with a
        known name from ``state``, the others from ``new``; and the known names.
    """
    old_row = {name: row for row, name in enumerate(old_classes)}
    known = [name for name in new_classes if name in old_row]
    source = torch.tensor([old_row[name] for name in known], dtype=torch.long)
    target = torch.tensor([new_classes.index(name) for name in known], dtype=torch.long)
    result = dict(state)
    for name, tensor in state.items():
        if not name.startswith((*CLASS_LAYERS, CLASS_EMBED)) or name not in new:
            continue
        # Denoising has one row more, for "no object".
        extra = int(name.startswith(CLASS_EMBED))
        fits = (
            len(tensor) == len(old_classes) + extra
            and len(new[name]) == len(new_classes) + extra
            and tensor.shape[1:] == new[name].shape[1:]
        )
        if not fits:
            continue
        rows = new[name].detach().clone()
        rows[target] = tensor[source].to(rows)
        result[name] = rows
    return result, known
