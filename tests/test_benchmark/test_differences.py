import copy

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdet_vanilla.benchmark.interruptions import differences


def checkpoint():
    logged = {
        'train/loss': HistoryBuffer([1.0, 2.0], [1, 1]),
        'train/time': HistoryBuffer([3.0], [1]),
    }
    return dict(
        meta=dict(time='now'),
        state_dict=dict(a=torch.zeros(2), b=torch.ones(1)),
        optimizer=dict(state={0: dict(step=3)}, param_groups=[dict(lr=0.1, params=[0, 1])]),
        message_hub=dict(log_scalars=logged),
    )


def test_none():
    other = checkpoint()
    other['meta']['time'] = 'later'
    other['message_hub']['log_scalars']['train/time'].update(4.0)
    assert differences(checkpoint(), other) == []


@pytest.mark.parametrize(
    'change, expected',
    [
        (lambda c: c['state_dict']['a'].add_(1e-30), '.state_dict.a'),
        (lambda c: c['state_dict'].pop('b'), '.state_dict.b'),
        (lambda c: c['optimizer']['state'][0].update(step=4), '.optimizer.state.0.step'),
        (lambda c: c['optimizer']['param_groups'][0]['params'].pop(), 'param_groups[0].params'),
        (lambda c: c['message_hub']['log_scalars']['train/loss'].update(3.0), '.train/loss'),
        (lambda c: c.update(ema_state_dict={}), '.ema_state_dict'),
    ],
)
def test_one(change, expected):
    first = checkpoint()
    second = copy.deepcopy(first)
    change(second)
    (found,) = differences(first, second)
    assert found.endswith(expected)
