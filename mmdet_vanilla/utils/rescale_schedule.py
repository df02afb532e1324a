"""Stretches or shortens a training config as a whole."""

from __future__ import annotations

from mmengine.config import Config

from .errors import UserError

# What counts epochs, beside the learning rate schedules: config of a hook -> its keys.
_HOOK_KEYS = dict(DeepTrainingHook=('end', 'merge_begin'), PipelineSwitchHook=('switch_epoch',))


def rescale_schedule(cfg: Config, max_epochs: int) -> None:
    """Changes the length of a training, and everything that is tied to it in proportion.

    Learning rate schedules by epoch, deep training, epochs of batch augmentations and of pipeline
    switches, and the validation interval are scaled; a warm-up by iterations stays.

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
    factor = max_epochs / old

    def scale(entry: dict, *keys: str) -> None:
        for key in keys:
            value = entry.get(key)
            if isinstance(value, (list, tuple)):
                entry[key] = [round(v * factor) for v in value]
            elif value and abs(value) >= 1:  # below 1 it is a share
                # A negative one counts from the end.
                sign = 1 if value > 0 else -1
                entry[key] = sign * max(1, round(abs(value) * factor))

    cfg.train_cfg.max_epochs = max_epochs
    scale(cfg.train_cfg, 'val_interval', 'val_begin')
    for scheduler in cfg.get('param_scheduler') or []:
        if scheduler.get('by_epoch', True):
            scale(scheduler, 'begin', 'end', 'T_max', 'milestones')
    for hook in [*(cfg.get('custom_hooks') or []), *cfg.get('default_hooks', {}).values()]:
        if not hook:
            continue
        scale(hook, *_HOOK_KEYS.get(hook['type'], ()))
        if hook['type'] == 'BatchAugmentScheduleHook':
            for entry in hook['schedule'].values():
                scale(entry, 'begin', 'end')
