"""Small trainings full of random numbers, and what they leave."""

import itertools
import random

import numpy as np
import torch
from helpers import Squares, tiny_runner
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mmdet_vanilla.benchmark.interruptions import differences
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


def assert_same(first, second):
    """Two checkpoints hold the same training, to the last bit."""
    assert differences(read_checkpoint(first), read_checkpoint(second)) == []


@METRICS.register_module()
class Falling(Count):
    """A metric that is better in every validation, by the rule ``less``."""

    values = itertools.count(0, -1)

    def compute_metrics(self, results):
        return dict(mAP=next(self.values))
