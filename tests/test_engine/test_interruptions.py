"""Trainings that are killed (SIGKILL) and resumed; at length: tools/measure_interruptions.py."""

import multiprocessing
import time

import pytest
from mmengine.registry import init_default_scope
from resume_helpers import MULTI_SCALE, loader, train

from mmdet_vanilla.benchmark.interruptions import differences
from mmdet_vanilla.utils import latest_checkpoint, read_checkpoint


def work(folder, num_workers):
    """Trains on, for 24 iterations altogether."""
    init_default_scope('mmdet')
    train(
        folder,
        [MULTI_SCALE, dict(type='EMAHook', update_buffers=True)],
        keep=2,
        train_dataloader=loader(num_workers, drop_last=True),
        train_cfg=dict(by_epoch=True, max_epochs=8),
        randomness=dict(seed=0),
        load_from=latest_checkpoint(folder),
        resume=True,
    )


def start(folder, num_workers):
    # A process that has never computed anything forks quickly and without the locks of threads.
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmdet_vanilla', 'resume_helpers'])
    process = context.Process(target=work, args=(str(folder), num_workers))
    process.start()
    return process


def wait_for(process, folder, pattern, moment):
    """Until there is a file of a later iteration."""
    end = time.monotonic() + 100
    while not any(int(path.name.split('.')[0][5:]) > moment for path in folder.glob(pattern)):
        assert process.is_alive() and time.monotonic() < end
        time.sleep(1e-4)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_killed_three_times(tmp_path, num_workers):
    start(tmp_path / 'whole', num_workers).join(100)
    folder = tmp_path / 'killed'
    folder.mkdir()
    # After a checkpoint was written, and while one is being written.
    for moment, pattern in ((2, 'iter_*.pth'), (7, 'iter_*.part'), (12, 'iter_*.part')):
        process = start(folder, num_workers)
        wait_for(process, folder, pattern, moment)
        process.kill()
        process.join()
        assert process.exitcode == -9
    process = start(folder, num_workers)
    process.join(100)
    assert process.exitcode == 0
    ends = (read_checkpoint(run / 'iter_24.pth') for run in (tmp_path / 'whole', folder))
    assert differences(*ends) == []
