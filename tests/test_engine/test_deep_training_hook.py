import copy
import logging
import math

import pytest
import torch
from helpers import TINY_RTDETR, Squares, stand_in_weights, tiny_runner
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from mmdet_vanilla.engine.hooks.deep_training_hook import (
    DeepTrainingError,
    DeepTrainingHook,
    deep_training_slope,
)

EMA = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, update_buffers=True)


class Record(Hook):
    """What the other hooks have left behind at every step."""

    def __init__(self):
        self.slopes, self.losses, self.merged = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        backbone = runner.model.backbone
        self.slopes.append(backbone.act_learn)
        self.merged.append(backbone.is_merged)
        self.losses.append(float(outputs['loss']))


def train(tmp_path, *hooks, **settings):
    record = Record()
    runner = tiny_runner(tmp_path, hooks=[*hooks, record], **settings)
    runner.train()
    return runner, record


@given(st.floats(0, 10), st.floats(0.1, 10), st.sampled_from(['linear', 'cosine']))
def test_the_slope_rises_from_0_to_1(progress, end, mode):
    slope = deep_training_slope(progress, end, mode)
    assert 0 <= slope <= 1
    assert slope <= deep_training_slope(progress + 0.1, end, mode) + 1e-12
    assert deep_training_slope(0, end, mode) == 0
    assert deep_training_slope(end, end, mode) == 1


def test_the_slopes_of_the_authors():
    for epoch in range(101):
        assert deep_training_slope(epoch, 100) == epoch / 100
        cosine = 0.5 * (1 - math.cos(math.pi * epoch / 100))
        assert deep_training_slope(epoch, 100, 'cosine') == pytest.approx(cosine)


@pytest.mark.parametrize(
    'by_epoch, end, expected',
    [
        (True, 2, [0, 0, 0.5, 0.5, 1, 1, 1, 1]),
        (False, 4, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (False, 0.25, [0, 0.5, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_sets_the_slope_of_model_and_blocks(tmp_path, by_epoch, end, expected):
    hook = dict(type='DeepTrainingHook', end=end, by_epoch=by_epoch)
    runner, record = train(tmp_path, hook)
    assert record.slopes == expected
    assert all(block.act_learn == 1 for block in runner.model.backbone.stages)
    assert runner.message_hub.get_scalar('train/act_learn').current() == 1
    runner.model.switch_to_deploy()


def test_by_iteration_in_a_loop_without_epochs(tmp_path):
    hook = dict(type='DeepTrainingHook', end=3, by_epoch=False)
    loop = dict(type='IterBasedTrainLoop', max_iters=5)
    _, record = train(tmp_path, hook, train_cfg=loop)
    assert record.slopes == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    with pytest.raises(DeepTrainingError, match='by_epoch=False'):
        train(tmp_path, dict(type='DeepTrainingHook', end=3), train_cfg=loop)


@pytest.mark.parametrize('merge_begin', [None, 3])
def test_resuming_goes_on_as_if_never_stopped(tmp_path, merge_begin):
    hook = dict(type='DeepTrainingHook', end=2, merge_begin=merge_begin)
    checkpoints = dict(type='CheckpointHook', interval=1)
    settings = dict(default_hooks=dict(checkpoint=checkpoints))
    whole, record = train(tmp_path, hook, EMA, **settings)
    assert record.merged == [False] * 6 + [merge_begin is not None] * 2
    # From before the slope is 1, and from after the pairs are merged where they are.
    for epoch in (1, 3) if merge_begin is None else (1, 3, 4):
        file = tmp_path / f'epoch_{epoch}.pth'
        again, resumed = train(
            tmp_path / f'again{epoch}', hook, EMA, load_from=str(file), resume=True, **settings
        )
        assert resumed.slopes == record.slopes[2 * epoch :]
        assert resumed.merged == record.merged[2 * epoch :]
        assert set(again.model.state_dict()) == set(whole.model.state_dict())
        states = [r.optim_wrapper.optimizer.state_dict()['state'] for r in (whole, again)]
        assert states[0].keys() == states[1].keys()


def test_a_checkpoint_in_the_middle_holds_its_slope(tmp_path):
    checkpoints = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    train(tmp_path, dict(type='DeepTrainingHook', end=2), EMA, **checkpoints)
    state = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert float(state['backbone.act_learn']) == 0.5
    model = MODELS.build(TINY_RTDETR)
    model.load_state_dict(copy.deepcopy(state))
    assert model.backbone.act_learn == model.backbone.stages[0].act_learn == 0.5
    with pytest.raises(RuntimeError, match='cannot fuse at act_learn=0.5'):
        model.switch_to_deploy()
    fused = dict(TINY_RTDETR['backbone'], deploy=True)
    backbone = {k.removeprefix('backbone.'): v for k, v in state.items() if 'backbone.' in k}
    with pytest.raises(RuntimeError, match='cannot fuse at act_learn=0.5'):
        MODELS.build(fused).load_state_dict(backbone)
    last = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)['state_dict']
    assert 'backbone.act_learn' not in last


def test_pretrained_weights_keep_slope_1(tmp_path):
    checkpoints = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    hook = dict(type='DeepTrainingHook', end=2)
    train(tmp_path, hook, **checkpoints)
    weights = str(tmp_path / 'epoch_4.pth')
    _, record = train(tmp_path / 'a', hook, load_from=weights, **checkpoints)
    assert set(record.slopes) == {1.0}
    # Also where the run is resumed, when nothing but the checkpoint tells.
    first = str(tmp_path / 'a' / 'epoch_1.pth')
    _, record = train(tmp_path / 'b', hook, load_from=first, resume=True)
    assert record.slopes == [1.0] * 6
    _, record = train(tmp_path / 'c', dict(hook, with_pretrained=True), load_from=weights)
    assert record.slopes[0] == 0


def test_weights_from_the_middle_are_no_start(tmp_path):
    checkpoints = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    hook = dict(type='DeepTrainingHook', end=2)
    train(tmp_path, hook, **checkpoints)
    middle = str(tmp_path / 'epoch_2.pth')
    with pytest.raises(DeepTrainingError, match='saved at act_learn=0.5, in the middle'):
        train(tmp_path / 'a', hook, load_from=middle)
    _, record = train(tmp_path / 'b', dict(hook, with_pretrained=True), load_from=middle)
    assert record.slopes == [0, 0, 0.5, 0.5, 1, 1, 1, 1]


def test_weights_that_name_no_slope_are_of_slope_1():
    weights = MODELS.build(TINY_RTDETR['backbone']).state_dict()
    model = MODELS.build(dict(TINY_RTDETR['backbone'], act_learn=0.25))
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    model.load_state_dict(weights)
    logger.removeHandler(handler)
    assert model.act_learn == 0.25
    assert len(messages) == 1 and 'stays at act_learn=0.25' in messages[0]


@pytest.mark.parametrize('merge_begin', [None, 3])
@pytest.mark.parametrize('epoch', [1, 4])
def test_checkpoints_can_be_tested(tmp_path, merge_begin, epoch, capfd):
    hook = dict(type='DeepTrainingHook', end=2, merge_begin=merge_begin)
    train(tmp_path, hook, default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    detections = str(tmp_path / 'detections.pkl')
    runner = tiny_runner(
        tmp_path / 'test',
        hooks=[hook],
        test_cfg=dict(),
        test_dataloader=dict(
            dataset=Squares(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        test_evaluator=dict(type='DumpDetResults', out_file_path=detections),
        load_from=str(tmp_path / f'epoch_{epoch}.pth'),
        log_level='INFO',
    )
    capfd.readouterr()
    runner.test()
    backbone = runner.model.backbone
    assert backbone.is_merged == (merge_begin is not None and epoch == 4)
    assert backbone.act_learn == (0 if epoch == 1 else 1)
    output = capfd.readouterr()
    said = 'Evaluating at act_learn=0.000' in output.out + output.err
    assert said == (epoch == 1)


def test_a_share_of_the_training_is_one_whenever_the_hook_runs(tmp_path):
    hook = DeepTrainingHook(end=0.25, merge_begin=3)
    for name in ('a', 'b'):
        _, record = train(tmp_path / name, hook)
        assert record.slopes == [0, 0, *[1] * 6] and record.merged == [*[False] * 6, True, True]
    with pytest.raises(DeepTrainingError, match='merge_begin=1 is before end=2'):
        train(tmp_path / 'c', DeepTrainingHook(end=0.5, merge_begin=1))


def test_merging_keeps_the_outputs_and_goes_on_learning(tmp_path):
    class Compare(Hook):
        """Outputs in evaluation mode, of model and average, around the switch."""

        priority = 'LOWEST'
        compared = 0

        def outputs(self, runner):
            average = next(h for h in runner.hooks if hasattr(h, 'ema_model')).ema_model.module
            nets = [copy.deepcopy(net.backbone).eval() for net in (runner.model, average)]
            return [net(torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)) for net in nets]

        def before_train(self, runner):
            stand_in_weights(runner.model)

        def after_train_epoch(self, runner):
            self.before = self.outputs(runner)

        def before_train_epoch(self, runner):
            if runner.epoch == 5:
                torch.testing.assert_close(self.outputs(runner), self.before, atol=1e-5, rtol=1e-5)
                self.compared += 1

    compare = Compare()
    runner, record = train(
        tmp_path,
        dict(type='DeepTrainingHook', end=2, merge_begin=5),
        EMA,
        compare,
        train_cfg=dict(by_epoch=True, max_epochs=40),
    )
    assert compare.compared == 1
    model = runner.model
    assert model.backbone.is_merged and not hasattr(model.backbone.stages[0], 'conv1')
    switch = record.merged.index(True)
    assert sum(record.losses[-10:]) < 0.8 * sum(record.losses[switch : switch + 10])
    groups = runner.optim_wrapper.optimizer.param_groups
    trained = {id(p) for group in groups for p in group['params']}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    average = next(h for h in runner.hooks if hasattr(h, 'ema_model')).ema_model
    assert set(average.module.state_dict()) == set(model.state_dict())
    assert set(average.avg_parameters) == set(model.state_dict())
    model.switch_to_deploy()


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(end=0), 'end=0'),
        (dict(end=2, mode='step'), "mode='step'"),
        (dict(end=3, merge_begin=2), 'merge_begin=2 is before end=3'),
    ],
)
def test_refuses_what_makes_no_sense(settings, message):
    with pytest.raises(DeepTrainingError, match=message):
        DeepTrainingHook(**settings)


@pytest.mark.parametrize('settings', [dict(end=4), dict(end=2, merge_begin=4)])
def test_refuses_a_schedule_longer_than_the_training(tmp_path, settings):
    with pytest.raises(DeepTrainingError, match='=4 epochs is not before the end .* 4 epochs'):
        train(tmp_path, dict(type='DeepTrainingHook', **settings))


def test_refuses_a_model_without_vanillanet(tmp_path):
    backbone = dict(type='ResNetVd', depth=18, base_channels=8, out_indices=(1, 2, 3))
    with pytest.raises(DeepTrainingError, match='no VanillaNet in RTDETR'):
        train(
            tmp_path,
            dict(type='DeepTrainingHook', end=2),
            model=dict(backbone=backbone),
            dataset=Squares(),
        )
