import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from resume_helpers import EMA, assert_same, train
from test_exact_resume import VALIDATION

from mmdet_vanilla.engine.hooks.atomic_checkpoint_hook import CheckpointWriteError
from mmdet_vanilla.utils import latest_checkpoint, read_checkpoint

SETTINGS = dict(randomness=dict(seed=0))


class Watch(Hook):
    """The checkpoints that are there when another one is about to be written."""

    def __init__(self):
        self.seen = []

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen.append({path.name for path in Path(runner.work_dir).glob('*.pth')})


def test_the_new_one_is_there_before_the_old_one_goes(tmp_path):
    watch = Watch()
    settings = dict(VALIDATION, val_evaluator=[dict(type='Falling')], interval=4, keep=1)
    train(tmp_path, [watch], checkpoint=dict(save_best='auto', rule='less'), **settings)
    # At every fourth of 12 iterations: the checkpoint, the best one, the checkpoint once more.
    expected = [set(), {4}, {4}, {4}, {8}, {8}, {8}, {12}, {12}]
    best = [set(), set(), {4}, {4}, {4}, {4, 8}, {8}, {8}, {8, 12}]
    assert watch.seen == [
        {f'iter_{n}.pth' for n in steps} | {f'best_mAP_iter_{n}.pth' for n in best_steps}
        for steps, best_steps in zip(expected, best)
    ]
    names = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert names == ['best_mAP_iter_12.pth', 'iter_12.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_12.pth')


def test_a_removal_that_did_not_happen_is_made_up_for(tmp_path):
    train(tmp_path, interval=1, keep=2, **SETTINGS)
    (tmp_path / 'iter_10.pth').write_bytes(b'left by a process that was killed')
    (tmp_path / 'iter_11.pth.part').write_bytes(b'and this too')
    train(tmp_path, keep=2, resume=True, **SETTINGS)
    names = sorted(path.name for path in tmp_path.glob('iter_*'))
    assert names == ['iter_11.pth', 'iter_12.pth']


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no small disk: mounting one needs root ({error})')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_full_disk(tmp_path, small_disk):
    train(tmp_path / 'whole', interval=12, **SETTINGS)
    with pytest.raises(CheckpointWriteError) as error:
        train(small_disk, **SETTINGS)
    last = latest_checkpoint(small_disk)
    for part in ('No space left on device', f'{last} is whole', '--resume'):
        assert part in str(error.value)
    read_checkpoint(last)
    assert not list(small_disk.glob('*.part'))
    subprocess.run(['mount', '-o', 'remount,size=64m', str(small_disk)], check=True)
    train(small_disk, resume=True, **SETTINGS)
    assert_same(tmp_path / 'whole/iter_12.pth', small_disk / 'iter_12.pth')


def test_the_best_one_on_a_full_disk(tmp_path, monkeypatch):
    """Where it cannot be written, the previous best one stays."""
    from mmdet_vanilla.utils import atomic

    flush = atomic._flush

    def full(path):
        if Path(path).name.startswith('best_mAP_iter_8'):
            raise OSError(28, 'No space left on device')
        flush(path)

    monkeypatch.setattr(atomic, '_flush', full)
    checkpoint = dict(save_best='auto', rule='less')
    settings = dict(VALIDATION, val_evaluator=[dict(type='Falling')], checkpoint=checkpoint)
    with pytest.raises(CheckpointWriteError, match='the best checkpoint could not be written'):
        train(tmp_path, [EMA], interval=4, **settings, **SETTINGS)
    assert [path.name for path in tmp_path.glob('best*')] == ['best_mAP_iter_4.pth']
    read_checkpoint(tmp_path / 'best_mAP_iter_4.pth')


def test_safetensors_beside_every_checkpoint(tmp_path):
    """The weights that are evaluated, with classes and config as texts."""
    settings = dict(VALIDATION, val_evaluator=[dict(type='Falling')], interval=4, keep=1)
    checkpoint = dict(save_best='auto', rule='less', safetensors=True)
    train(tmp_path, [EMA], checkpoint=checkpoint, **settings)
    names = {path.name for path in tmp_path.glob('*iter*')}
    stems = ('iter_12', 'best_mAP_iter_12')
    assert names == {f'{stem}.{kind}' for stem in stems for kind in ('pth', 'safetensors')}
    for stem in stems:
        pickled, safe = (read_checkpoint(tmp_path / f'{stem}.{k}') for k in ('pth', 'safetensors'))
        assert set(safe) == {'state_dict', 'meta'}
        assert safe['state_dict'].keys() == pickled['state_dict'].keys()
        for name, tensor in safe['state_dict'].items():
            assert torch.equal(tensor, pickled['state_dict'][name]), name
        assert safe['meta']['cfg'] == pickled['meta']['cfg']
        name = 'backbone.stem2.0.weight'
        # The average, not what was trained.
        trained = pickled['ema_state_dict'][f'module.{name}']
        assert not torch.equal(safe['state_dict'][name], trained)


def test_a_cut_off_safetensors_file_is_removed(tmp_path):
    train(tmp_path, interval=12, checkpoint=dict(safetensors=True), **SETTINGS)
    (tmp_path / 'iter_11.safetensors.part').write_bytes(b'left by a process that was killed')
    train(tmp_path, interval=12, resume=True, **SETTINGS)
    assert sorted(p.name for p in tmp_path.glob('iter*')) == ['iter_12.pth', 'iter_12.safetensors']
