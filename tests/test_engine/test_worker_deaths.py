"""Workers of the data loader die, and the training goes on as if they had not."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from resume_helpers import Noisy, assert_same, loader, train

from mmdet_vanilla.engine import WorkerDiedError


class Fatal(Noisy):
    """Kills the worker that loads a certain image, a number of times."""

    def __init__(self, marker, times):
        super().__init__(7)
        self.marker, self.times = Path(marker), times

    def __getitem__(self, index):
        died = len(self.marker.read_text()) if self.marker.exists() else 0
        if index == 3 and torch.utils.data.get_worker_info() and died < self.times:
            self.marker.write_text('x' * (died + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class KillWorker(Hook):
    """Kills a worker in the middle of a training step, and one between two epochs."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            self.kill(runner)
            time.sleep(0.2)  # the signal of its death arrives here

    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            self.kill(runner)

    def kill(self, runner):
        os.kill(runner.train_dataloader._iterator._workers[0].pid, signal.SIGKILL)


LOOPS = [
    dict(by_epoch=True, max_epochs=3),
    pytest.param(dict(type='IterBasedTrainLoop', max_iters=12), marks=pytest.mark.slow),
]
SETTINGS = dict(interval=12, param_scheduler=None, randomness=dict(seed=0))


@pytest.mark.parametrize('loop', LOOPS, ids=['epochs', 'iterations'])
def test_the_batches_of_a_dead_worker_are_loaded_again(tmp_path, loop):
    train(tmp_path / 'whole', train_cfg=loop, **SETTINGS)
    expected = tmp_path / 'whole/iter_12.pth'
    data = dict(loader(2), dataset=Fatal(tmp_path / 'died', 2))
    train(tmp_path / 'loading', train_cfg=loop, train_dataloader=data, **SETTINGS)
    assert (tmp_path / 'died').read_text() == 'xx'
    assert_same(expected, tmp_path / 'loading/iter_12.pth')
    hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, update_buffers=True)]
    hooks.append(KillWorker())
    train(tmp_path / 'step', hooks, train_cfg=loop, train_dataloader=loader(2), **SETTINGS)
    assert_same(expected, tmp_path / 'step/iter_12.pth')


def test_workers_that_die_again_and_again(tmp_path):
    data = dict(loader(1), dataset=Fatal(tmp_path / 'died', 9))
    with pytest.raises(WorkerDiedError, match='died 3 times in a row at iteration .*num_workers'):
        train(tmp_path / 'run', train_dataloader=data, **SETTINGS)
