"""A training that is interrupted ends with the weights of one that is not."""

import copy
import random

import numpy as np
import pytest
import torch
from helpers import Squares, tiny_runner
from mmengine.evaluator import BaseMetric
from mmengine.runner import FlexibleRunner

from mmdet_vanilla.utils import read_checkpoint

EMA = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, update_buffers=True)
MULTI_SCALE = dict(
    type='BatchAugmentScheduleHook',
    schedule=dict(
        size=dict(augment=dict(type='BatchRandomResize', sizes=[64, 96])),
        mixup=dict(augment=dict(type='BatchMixUp'), begin=1, end=2),
    ),
)
DEEP = dict(type='DeepTrainingHook', end=2)


class Noisy(Squares):
    """Squares with random numbers of all three kinds on them."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        noise = np.random.randint(20) + random.randrange(20) + torch.randint(20, ()).item()
        item['inputs'] = (item['inputs'].int() + noise).clamp(max=255).byte()
        return item


class Count(BaseMetric):
    """How many images were evaluated; the best is the first."""

    def process(self, data_batch, data_samples):
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):
        return dict(mAP=len(results))


def loader(num_workers=0, shuffle=True, sampler='DefaultSampler', **settings):
    return dict(
        dataset=Noisy(7),
        batch_size=2,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        sampler=dict(type=sampler, shuffle=shuffle),
        collate_fn=dict(type='pseudo_collate'),
        **settings,
    )


def train(work_dir, hooks=(EMA,), interval=1, by_epoch=False, keep=-1, **settings):
    checkpoint = dict(
        type='AtomicCheckpointHook', interval=interval, by_epoch=by_epoch, max_keep_ckpts=keep
    )
    checkpoint.update(settings.pop('checkpoint', {}))
    config = dict(
        train_dataloader=loader(),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        default_hooks=dict(checkpoint=checkpoint),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
            dict(type='MultiStepLR', milestones=[2], by_epoch=True),
        ],
        # The order of the data is not known from the config.
        randomness=dict(seed=None),
    )
    config.update(settings)
    runner = tiny_runner(work_dir, hooks=[*hooks, dict(type='ExactResumeHook')], **config)
    runner.train()
    return runner


def resume(checkpoint, work_dir, **settings):
    return train(work_dir, load_from=str(checkpoint), resume=True, **settings)


def states(path):
    content = read_checkpoint(path)
    hub = content['message_hub']['log_scalars']
    logged = {k: hub[k].data[0] for k in hub if not any(t in k for t in ('time', 'memory'))}
    return dict(
        model=content['state_dict'],
        average=content.get('ema_state_dict'),
        optimizer=content['optimizer'],
        schedulers=content['param_schedulers'],
        log=logged,
    )


def assert_same(first, second, name=''):
    assert type(first) is type(second), name
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_same(first[key], second[key], f'{name}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), name
        for i, (a, b) in enumerate(zip(first, second)):
            assert_same(a, b, f'{name}[{i}]')
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), name
    elif isinstance(first, np.ndarray):
        assert np.array_equal(first, second), name
    else:
        assert first == second, name


def iter_loop(sampler, **settings):
    return dict(
        train_dataloader=loader(sampler=sampler, **settings),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=9),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5)],
    )


CASES = {
    # 3 epochs of 3 batches; mixup needs two images.
    'epochs': dict(
        hooks=[EMA, MULTI_SCALE, DEEP], train_dataloader=loader(drop_last=True), by_epoch=False
    ),
    'merged': dict(
        hooks=[EMA, dict(DEEP, end=1, merge_begin=1)], train_dataloader=loader(drop_last=True)
    ),
    'infinite': iter_loop('InfiniteSampler'),
    'iterations over epochs': iter_loop('DefaultSampler'),
    'accumulated': dict(
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=2),
        train_dataloader=loader(drop_last=True),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_from_inside_an_epoch(tmp_path, case):
    settings = CASES[case]
    train(tmp_path / 'whole', **settings)
    for step in (1, 3, 5):
        first = tmp_path / f'whole/iter_{step}.pth'
        resume(first, tmp_path / f'from{step}', interval=-1, **copy.deepcopy(settings))
        assert_same(states(tmp_path / 'whole/iter_9.pth'), states(tmp_path / f'from{step}/iter_9.pth'))


@pytest.mark.parametrize('case', ['epochs', 'infinite', 'iterations over epochs'])
def test_the_number_of_workers_does_not_matter(tmp_path, case):
    settings = dict(CASES[case], randomness=dict(seed=3))
    train(tmp_path / 'none', **settings)
    settings['train_dataloader'] = dict(
        settings['train_dataloader'], num_workers=2, persistent_workers=True
    )
    train(tmp_path / 'two', interval=4, **settings)
    resume(tmp_path / 'two/iter_4.pth', tmp_path / 'again', interval=-1, **settings)
    expected = states(tmp_path / 'none/iter_9.pth')
    assert_same(expected, states(tmp_path / 'two/iter_9.pth'))
    assert_same(expected, states(tmp_path / 'again/iter_9.pth'))


def test_two_runs_with_one_seed_have_the_same_losses(tmp_path):
    logs = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        runner = train(tmp_path / name, interval=-1, randomness=dict(seed=seed))
        logs.append(runner.message_hub.get_scalar('train/loss').data[0])
    assert np.array_equal(logs[0], logs[1]) and not np.array_equal(logs[0], logs[2])


VALIDATION = dict(
    val_dataloader=dict(
        dataset=Squares(3),
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    ),
    val_evaluator=Count(),
    val_cfg=dict(),
)


class Interrupt(BaseMetric):
    """Ends the process, as far as a test can, in the n-th validation."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def process(self, data_batch, data_samples):
        self.n -= 1 / 3
        if self.n < 0.1:
            raise KeyboardInterrupt

    def compute_metrics(self, results):
        return {}


@pytest.mark.parametrize('runner_type', ['Runner', 'FlexibleRunner'])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_an_interrupted_validation_is_made_up_for(tmp_path, by_epoch, runner_type):
    settings = dict(
        VALIDATION,
        by_epoch=by_epoch,
        interval=1 if by_epoch else 4,
        checkpoint=dict(save_best='auto'),
        hooks=[],
    )
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **{**settings, 'val_evaluator': [Count(), Interrupt(2)]})
    best = [path.name for path in tmp_path.glob('best*')]
    assert best == ['best_mAP_epoch_1.pth'] if by_epoch else ['best_mAP_iter_4.pth']
    runner = train(tmp_path, resume=True, **settings)
    logged = runner.message_hub.get_scalar('val/mAP').data[0]
    assert logged.tolist() == [3, 3, 3]
    # Nothing is left to do, and nothing is done.
    runner = train(tmp_path, resume=True, **settings)
    assert len(runner.message_hub.get_scalar('val/mAP').data[0]) == 3
