"""What is wrong with an item, said before any long work."""

from __future__ import annotations

from .data import ComparisonData
from .dataset import match_classes
from .detectors import build_model, config_of, num_classes_of, read_metadata, scope
from .errors import ComparisonError
from .items import Item
from .preprocessing import own_pipeline
from .race import prepare
from .settings import Settings


def check_item(item: Item, settings: Settings, data: ComparisonData | None) -> None:
    """Checks whether an item can be compared: its config, its weights, its classes.

    Args:
        item: The item.
        settings: Of the comparison.
        data: Of the comparison, if any.

    Raises:
        UserError: If it cannot.
    """
    if item.kind == 'pytorch':
        _check_config(item, data)
    if settings.train:
        prepare(item, data.user_data, settings.out / 'train', settings.keep_init)
    elif item.kind != 'pytorch':
        names = read_metadata(item)['names']
        if data:
            match_classes(names, len(names), data.split, item.spec)


def _check_config(item: Item, data: ComparisonData | None) -> None:
    try:
        cfg = config_of(item)
    except ImportError as error:  # of what custom_imports names
        raise ComparisonError(
            f'{item.spec}: {" ".join(str(error).split())}. Install what is missing, or leave the '
            'item out.'
        ) from None
    if 'model' not in cfg:
        raise ComparisonError(f'{item.spec}: the config has no model.')
    own_pipeline(cfg)
    if item.checkpoint:
        with scope(cfg.get('default_scope') or 'mmdet'):
            _, classes = build_model(cfg, item.checkpoint)
        if data:
            match_classes(classes, num_classes_of(cfg), data.split, item.spec)
