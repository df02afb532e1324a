"""Takes pre-trained weights out of a config."""

from __future__ import annotations

from .preprocessing import kind_of


def remove_pretrained(cfg: object, unfreeze: bool = False, path: str = 'model') -> list[str]:
    """Removes ``Pretrained`` initialisation from a nested config, in place.

    Args:
        cfg: Config of a model.
        unfreeze: Whether to let what was frozen around the weights learn as well
            (``frozen_stages``, ``norm_eval``): random weights that are frozen stay random.
        path: Where ``cfg`` stands, for what is returned.

    Returns:
        What was changed, in words.
    """
    changes = []
    if isinstance(cfg, dict):
        init = cfg.get('init_cfg')
        entries = init if isinstance(init, (list, tuple)) else [init]
        kept = [e for e in entries if not (isinstance(e, dict) and kind_of(e) == 'Pretrained')]
        removed = len(kept) < len(entries)
        if removed:
            cfg['init_cfg'] = kept or None
            changes.append(f'{path}.init_cfg Pretrained removed')
        if isinstance(cfg.get('pretrained'), str):
            cfg['pretrained'] = None
            removed = True
            changes.append(f'{path}.pretrained removed')
        if removed and unfreeze:
            for key, value in (('frozen_stages', -1), ('norm_eval', False)):
                if cfg.get(key, value) != value:
                    changes.append(f'{path}.{key} {cfg[key]} -> {value}')
                    cfg[key] = value
        items = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        items = enumerate(cfg)
    else:
        return changes
    for key, value in items:
        changes += remove_pretrained(value, unfreeze, f'{path}.{key}')
    return changes
