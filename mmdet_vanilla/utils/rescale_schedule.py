"""Stretches or shortens a training config as a whole."""

from __future__ import annotations

import math

from mmengine.config import Config

from .errors import UserError

# What counts epochs, beside the learning rate schedules: config of a hook -> its keys.
_HOOK_KEYS = dict(
    DeepTrainingHook=('end', 'merge_begin'),
    EMAHook=('begin_epoch',),
    PipelineSwitchHook=('switch_epoch',),
    YOLOXModeSwitchHook=('num_last_epochs',),
)
# A recipe for more data may have a warm-up that is longer than a training on less.
_MOST_WARM_UP = 0.1
# Of mmengine's and mmdet's averages; and the largest that mmengine takes for one.
_EMA_MOMENTUM, _EMA_GAMMA, _MOST_MOMENTUM = 2e-4, 2000, 0.5


def rescale_schedule(cfg: Config, max_epochs: int, steps: tuple[int, int] | None = None) -> None:
    """Changes the length of a training, and everything that is tied to it in proportion.

    Learning rate schedules by epoch, deep training, epochs of batch augmentations and of pipeline
    switches, and the validation interval are scaled and rounded. What began before the end of the
    training still does, and what becomes shorter than an epoch is dropped.

    What counts iterations (a warm-up, an average of weights) is shortened with the training if
    ``steps`` tells how many there are; a warm-up then takes a tenth of it at most. A longer
    training keeps it.

    Args:
        cfg: Config of a training by epochs; changed in place.
        max_epochs: New number of epochs, >= 1.
        steps: Iterations of an epoch, before and now.

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
    if steps is not None:
        before, now = old * steps[0], max_epochs * steps[1]
        _rescale_iterations(cfg, min(1.0, now / before), now)


def _rescale_iterations(cfg: Config, ratio: float, iterations: int) -> None:
    def scaled(value: int) -> int:
        return max(round(value * ratio), 1) if value > 0 else value

    by_iteration = [s for s in cfg.get('param_scheduler') or [] if not s.get('by_epoch', True)]
    ends = [s['end'] for s in by_iteration if not s.get('begin') and s.get('end')]
    warm_up = min(ends, default=0)
    capped = min(scaled(warm_up), max(1, int(_MOST_WARM_UP * iterations)), warm_up)

    for scheduler in by_iteration:
        for key in ('begin', 'end', 'T_max'):
            if scheduler.get(key) is not None:
                value = scheduler[key]
                scheduler[key] = capped if value == warm_up else scaled(value)
        if 'milestones' in scheduler:
            scheduler.milestones = sorted({scaled(value) for value in scheduler.milestones})
    for hook in [*(cfg.get('custom_hooks') or []), *cfg.get('default_hooks', {}).values()]:
        if hook and hook['type'] == 'EMAHook':
            if 'begin_iter' in hook:
                hook['begin_iter'] = scaled(hook['begin_iter'])
            # Averages over the same share of the training: 1 / momentum iterations.
            momentum = hook.get('momentum', _EMA_MOMENTUM)
            hook['momentum'] = max(momentum, min(momentum / ratio, _MOST_MOMENTUM))
            if hook.get('ema_type') == 'ExpMomentumEMA':
                hook['gamma'] = scaled(hook.get('gamma', _EMA_GAMMA))
