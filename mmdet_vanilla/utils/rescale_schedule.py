"""Stretches or shortens a training config as a whole."""

from __future__ import annotations

import math

from mmengine.config import Config

from .errors import UserError

# What counts epochs, beside the learning rate schedules: config of a hook -> its keys.
_HOOK_KEYS = dict(DeepTrainingHook=('end', 'merge_begin'), PipelineSwitchHook=('switch_epoch',))


def rescale_schedule(cfg: Config, max_epochs: int) -> None:
    """Changes the length of a training, and everything that is tied to it in proportion.

    Learning rate schedules by epoch, deep training, epochs of batch augmentations and of pipeline
    switches, and the validation interval are scaled and rounded; a warm-up by iterations stays.
    What began before the end of the training still does, and what becomes shorter than an epoch is
    dropped.

    Args:
        cfg: Config of a training by epochs; changed in place.
        max_epochs: New number of epochs, >= 1.

    Raises:
        UserError: If ``max_epochs`` is below 1 or the config does not train by epochs.
    """
    if max_epochs < 1:
        raise UserError(f'max_epochs={max_epochs}: expected at least 1.')
    old = cfg.train_cfg.get('max_epochs')
    if old is None:
        raise UserError('the config trains by iterations (no train_cfg.max_epochs).')

    def scaled(value: float | None) -> float | None:
        if value is None or 0 < abs(value) < 1:  # a share of the training
            return value
        sign = 1 if value > 0 else -1  # a negative one counts from the end
        # Something happens at least one epoch before the end if it did so in the long training.
        last = max(max_epochs - 1, 1) if abs(value) < old else math.inf
        return sign * min(max(round(abs(value) * max_epochs / old), bool(value)), last)

    def scale(entry: dict, *keys: str) -> None:
        for key in keys:
            if key in entry:
                entry[key] = scaled(entry[key])

    def is_left(entry: dict) -> bool:
        begin, end = entry.get('begin', 0), entry.get('end')
        begin, end = (e + max_epochs if e and e < 0 else e for e in (begin, end))
        return begin < (max_epochs if end is None else min(end, max_epochs))

    cfg.train_cfg.max_epochs = max_epochs
    scale(cfg.train_cfg, 'val_interval', 'val_begin')
    for scheduler in cfg.get('param_scheduler') or []:
        if not scheduler.get('by_epoch', True):
            continue
        whole = scheduler.get('T_max') == scheduler.get('end', old) - scheduler.get('begin', 0)
        scale(scheduler, 'begin', 'end', 'T_max')
        if whole:
            scheduler.T_max = scheduler.get('end', max_epochs) - scheduler.get('begin', 0)
        if 'milestones' in scheduler:
            scheduler.milestones = sorted({scaled(epoch) for epoch in scheduler.milestones})
    if cfg.get('param_scheduler'):
        cfg.param_scheduler = [
            s for s in cfg.param_scheduler if not s.get('by_epoch', True) or is_left(s)
        ]
    for hook in [*(cfg.get('custom_hooks') or []), *cfg.get('default_hooks', {}).values()]:
        if not hook:
            continue
        scale(hook, *_HOOK_KEYS.get(hook['type'], ()))
        if hook['type'] == 'BatchAugmentScheduleHook':
            for name, entry in list(hook['schedule'].items()):
                scale(entry, 'begin', 'end')
                if not is_left(entry):
                    del hook['schedule'][name]
