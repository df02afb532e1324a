import copy

import pytest
from helpers import CONFIGS
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.rescale_schedule import rescale_schedule


def config():
    return Config(
        dict(
            train_cfg=dict(max_epochs=40, val_interval=4),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=100),
                dict(type='CosineAnnealingLR', begin=20, end=40, T_max=20),
                dict(type='MultiStepLR', milestones=[30, 36]),
            ],
            default_hooks=dict(
                deep=dict(type='DeepTrainingHook', end=12, merge_begin=None),
                augments=dict(
                    type='BatchAugmentScheduleHook', schedule=dict(a=dict(begin=2, end=-4))
                ),
            ),
        )
    )


def test_scales_everything_that_counts_epochs():
    cfg = config()
    rescale_schedule(cfg, 20)
    assert cfg.train_cfg == dict(max_epochs=20, val_interval=2)
    warm_up, cosine, steps = cfg.param_scheduler
    assert warm_up.end == 100
    assert (cosine.begin, cosine.end, cosine.T_max) == (10, 20, 10)
    assert steps.milestones == [15, 18]
    assert cfg.default_hooks.deep.end == 6 and cfg.default_hooks.deep.merge_begin is None
    schedule = cfg.default_hooks.augments.schedule
    assert (schedule.a.begin, schedule.a.end) == (1, -2)


@pytest.mark.parametrize('max_epochs, steps', [(4, 15), (1, 60), (20, 50), (40, 50), (80, 50)])
@pytest.mark.parametrize('warm_up', [100, 2000, 10**6])
def test_what_counts_iterations_is_shortened_too(warm_up, max_epochs, steps):
    cfg = config()
    cfg.param_scheduler[0].end = warm_up
    cfg.custom_hooks = [
        dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-3, gamma=warm_up),
        dict(type='EMAHook', begin_iter=warm_up),
    ]
    rescale_schedule(cfg, max_epochs, (50, steps))
    iterations, ratio = max_epochs * steps, min(1, max_epochs * steps / 2000)
    end = cfg.param_scheduler[0].end
    assert 1 <= end <= warm_up and end <= max(1, iterations / 10)
    assert end == min(max(1, round(warm_up * ratio)), iterations // 10)
    # The average is over the same share of the training.
    exponential, plain = cfg.custom_hooks
    assert exponential.momentum == pytest.approx(1e-3 / ratio)
    assert exponential.gamma == plain.begin_iter == pytest.approx(warm_up * ratio, abs=0.5)
    assert plain.momentum == pytest.approx(2e-4 / ratio)


def test_a_very_short_training_still_averages():
    cfg = Config(dict(train_cfg=dict(max_epochs=300), custom_hooks=[dict(type='EMAHook')]))
    rescale_schedule(cfg, 1, (10_000, 10))
    assert cfg.custom_hooks[0].momentum == 0.5


def test_refuses_what_has_no_epochs():
    with pytest.raises(UserError, match='max_epochs=0'):
        rescale_schedule(config(), 0)
    cfg = config()
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=5)
    with pytest.raises(UserError, match='by iterations'):
        rescale_schedule(cfg, 3)


LONG = Config.fromfile(CONFIGS / 'deim_rtdetrv2_r18vd_coco.py')


@settings(max_examples=60)
@given(st.integers(1, 400))
def test_what_holds_in_a_long_training_holds_in_a_short_one(max_epochs):
    cfg = copy.deepcopy(LONG)
    rescale_schedule(cfg, max_epochs)
    assert cfg.train_cfg.val_interval >= 1
    for scheduler in cfg.param_scheduler[1:]:
        assert 0 <= scheduler.begin < scheduler.end <= max_epochs
        assert scheduler.T_max == scheduler.end - scheduler.begin
    # The plain epochs at the end stay, if there is more than one.
    switch = cfg.default_hooks.pipeline_switch.switch_epoch
    assert switch < max_epochs or max_epochs == 1
    for entry in cfg.default_hooks.batch_augments.schedule.values():
        assert 0 <= entry.begin < entry.end <= max(switch, 1)


def test_drops_what_is_shorter_than_an_epoch():
    cfg = copy.deepcopy(LONG)
    rescale_schedule(cfg, 1)
    assert [scheduler.type for scheduler in cfg.param_scheduler] == ['QuadraticWarmupLR']
    assert not cfg.default_hooks.batch_augments.schedule
