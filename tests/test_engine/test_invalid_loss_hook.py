import mmcv
import numpy as np
import pytest
import torch
from helpers import Squares
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.utils import digit_version
from resume_helpers import train

from mmdet_vanilla.engine import InvalidLossHook
from mmdet_vanilla.engine.hooks.invalid_loss_hook import InvalidLossError
from mmdet_vanilla.utils import latest_checkpoint, read_checkpoint

HOOK = dict(type='InvalidLossHook')
EMA = dict(type='EMAHook', update_buffers=True)


class Spoilt(Squares):
    """One image of six is not finite in the first epoch."""

    def __init__(self, value, times=1):
        super().__init__(6)
        self.value, self.times = value, times

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item['inputs'] = item['inputs'].float()
        if index == 3 and self.times:
            self.times -= 1
            item['inputs'][0, 5, 5] = self.value
        return item


@OPTIM_WRAPPERS.register_module()
class ScaledOnCpu(AmpOptimWrapper):
    """``AmpOptimWrapper`` with a scaler that runs without an accelerator, which it demands."""

    def __init__(self, **settings):
        OptimWrapper.__init__(self, **settings)
        self._scale_update_param = None
        self.cast_dtype = None
        self.loss_scaler = torch.amp.GradScaler('cpu')


def spoilt(value, times=1):
    return dict(
        dataset=Spoilt(value, times),
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_stops_at_the_step_and_keeps_its_batch(tmp_path, value):
    message = r'iteration 2 \(epoch 1\): loss is nan, .*The batch \(2, 3\) is in .*iter_2.pth'
    with pytest.raises(InvalidLossError, match=message):
        train(tmp_path, [EMA, HOOK], train_dataloader=spoilt(value))
    batch = read_checkpoint(tmp_path / 'invalid_loss/iter_2.pth')
    assert batch['iteration'] == 2 and not np.isfinite(batch['losses']['loss'])
    assert not batch['inputs'][1][0, 5, 5].isfinite()
    assert batch['samples'][1]['boxes'].shape == (1, 4) and batch['samples'][1]['img_id'] == 3
    assert mmcv.imread(str(tmp_path / 'invalid_loss/iter_2.png')).any()
    last = latest_checkpoint(tmp_path)
    assert last.endswith('iter_1.pth')
    assert all(tensor.isfinite().all() for tensor in read_checkpoint(last)['state_dict'].values())


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'), reason='no loss scaler on a CPU'
)
@pytest.mark.parametrize('times, allowed', [(1, 1), (2, 1)])
def test_mixed_precision_may_leave_out_a_step(tmp_path, times, allowed):
    optim_wrapper = dict(type='ScaledOnCpu', optimizer=dict(type='AdamW', lr=1e-3))
    settings = dict(train_dataloader=spoilt(float('nan'), times), optim_wrapper=optim_wrapper)
    hooks = [EMA, dict(HOOK, max_skipped=allowed)]
    if times > allowed:
        with pytest.raises(InvalidLossError, match='iteration 5'):
            train(tmp_path, hooks, **settings)
        return
    runner = train(tmp_path, hooks, **settings)
    assert runner.iter == 9 and runner.message_hub.get_info('skipped_steps') == 1
    for path, steps in (('iter_1.pth', 1), ('iter_2.pth', 1), ('iter_9.pth', 8)):
        content = read_checkpoint(tmp_path / path)
        tensors = [*content['state_dict'].values(), *content['ema_state_dict'].values()]
        assert all(tensor.isfinite().all() for tensor in tensors)
        assert content['optimizer']['state'][0]['step'] == steps
    scale = content['optimizer']['loss_scaler']['scale']
    assert scale == 2**15


def test_without_a_scaler_nothing_is_left_out(tmp_path):
    with pytest.raises(InvalidLossError):
        train(tmp_path, [dict(HOOK, max_skipped=9)], train_dataloader=spoilt(float('nan')))


def test_number_of_steps():
    with pytest.raises(ValueError, match='expected >= 0, got -1'):
        InvalidLossHook(max_skipped=-1)
