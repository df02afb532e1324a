import pytest
from helpers import Squares, tiny_runner
from mmengine.hooks import Hook

from mmdet_vanilla.engine.hooks.batch_augment_schedule_hook import (
    AugmentationError,
    BatchAugmentScheduleHook,
)

MIXUP = dict(type='BatchMixUp', prob=1.0)
RESIZE = dict(type='BatchRandomResize', sizes=[64, 96])


class Record(Hook):
    priority = 'LOWEST'

    def __init__(self):
        self.active = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        augments = runner.model.data_preprocessor.batch_augments or []
        self.active.append([type(augment).__name__ for augment in augments])


def train(tmp_path, schedule, **settings):
    record = Record()
    hook = dict(type='BatchAugmentScheduleHook', schedule=schedule)
    runner = tiny_runner(tmp_path, hooks=[hook, record], **settings)
    runner.train()
    return record.active[::2]


def test_every_augmentation_has_its_epochs(tmp_path):
    schedule = dict(
        mixup=dict(augment=MIXUP, begin=1, end=3), multi_scale=dict(augment=RESIZE, end=-1)
    )
    checkpoint = dict(type='CheckpointHook', interval=1)
    hooks = dict(default_hooks=dict(checkpoint=checkpoint))
    expected = [['BatchRandomResize'], *[['BatchMixUp', 'BatchRandomResize']] * 2, []]
    assert train(tmp_path, schedule, **hooks) == expected
    resumed = train(
        tmp_path / 'again', schedule, load_from=str(tmp_path / 'epoch_2.pth'), resume=True
    )
    assert resumed == expected[2:]


def test_an_empty_schedule(tmp_path):
    assert train(tmp_path, {}) == [[]] * 4


@pytest.mark.parametrize(
    'schedule, settings, message',
    [
        (dict(m=dict(augment=MIXUP, begin=4)), {}, 'm is active from epoch 4 to 4'),
        (dict(m=dict(augment=MIXUP, end=9)), {}, 'adapt begin and end to max_epochs'),
        (dict(m=dict(augment=MIXUP)), dict(dataset=Squares(1)), 'at least 2, but a batch has 1'),
        (dict(m=dict(augment=MIXUP)), dict(dataset=Squares(3)), 'the last batch of an epoch has 1'),
        (
            dict(r=dict(augment=RESIZE)),
            dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=2)),
            'use an EpochBasedTrainLoop',
        ),
    ],
)
def test_stops_before_training(tmp_path, schedule, settings, message):
    with pytest.raises(AugmentationError, match=message):
        train(tmp_path, schedule, **settings)


def test_refuses_unknown_keys():
    with pytest.raises(AugmentationError, match='schedule.a: expected augment'):
        BatchAugmentScheduleHook(dict(a=dict(augment=MIXUP, start=1)))
