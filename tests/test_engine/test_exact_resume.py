"""A training that is interrupted ends with the weights of one that is not."""

import numpy as np
import pytest
from helpers import Squares
from mmengine.evaluator import BaseMetric
from resume_helpers import DEEP, EMA, MULTI_SCALE, Count, assert_same, loader, resume, train


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
    'flexible': dict(
        hooks=[MULTI_SCALE], train_dataloader=loader(drop_last=True), runner_type='FlexibleRunner'
    ),
    'accumulated': dict(
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=2),
        train_dataloader=loader(drop_last=True),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_from_inside_an_epoch(tmp_path, case):
    settings = CASES[case]
    train(tmp_path / 'whole', **settings)
    expected = tmp_path / 'whole/iter_9.pth'
    for step in (1, 5):
        first = tmp_path / f'whole/iter_{step}.pth'
        resume(first, tmp_path / f'from{step}', interval=-1, **settings)
        assert_same(expected, tmp_path / f'from{step}/iter_9.pth')


@pytest.mark.parametrize('case', ['epochs', 'infinite'])
def test_the_number_of_workers_does_not_matter(tmp_path, case):
    settings = dict(CASES[case], randomness=dict(seed=3))
    train(tmp_path / 'none', **settings)
    settings['train_dataloader'] = dict(
        settings['train_dataloader'], num_workers=2, persistent_workers=True
    )
    train(tmp_path / 'two', interval=4, **settings)
    resume(tmp_path / 'two/iter_4.pth', tmp_path / 'again', interval=-1, **settings)
    expected = tmp_path / 'none/iter_9.pth'
    assert_same(expected, tmp_path / 'two/iter_9.pth')
    assert_same(expected, tmp_path / 'again/iter_9.pth')


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
    val_evaluator=[Count()],
    val_cfg=dict(),
)


class Interrupt(BaseMetric):
    """Ends the training in the n-th validation."""

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
        runner_type=runner_type,
    )
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **{**settings, 'val_evaluator': [Count(), Interrupt(2)]})
    best = [path.name for path in tmp_path.glob('best*')]
    assert best == [f'best_mAP_{"epoch_1" if by_epoch else "iter_4"}.pth']
    runner = train(tmp_path, resume=True, **settings)
    logged = runner.message_hub.get_scalar('val/mAP').data[0]
    assert logged.tolist() == [3, 3, 3]
    # Nothing is left to do, and nothing is done.
    runner = train(tmp_path, resume=True, **settings)
    assert len(runner.message_hub.get_scalar('val/mAP').data[0]) == 3
