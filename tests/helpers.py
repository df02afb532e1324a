"""What several tests need: weights that make outputs vary, data samples, small configs."""

import zlib
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'

TINY_RTDETR = dict(
    type='RTDETR',
    backbone=dict(type='VanillaNet', arch='5', widen_factor=1 / 64),
    neck=dict(type='RTDETRHybridEncoder', out_channels=32, feedforward_channels=32, expansion=0.5),
    bbox_head=dict(
        type='RTDETRHead',
        num_classes=4,
        embed_dims=32,
        feedforward_channels=32,
        num_heads=4,
        num_queries=10,
        num_decoder_layers=2,
        num_denoising=6,
    ),
)


@torch.no_grad()
def stand_in_weights(module, salt=0):
    """Fills a module with values that depend on names alone and keep activations alive.

    With default initialisation a VanillaNet in eval mode is constant, so that any comparison would
    pass.
    """
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or name.endswith('points_of_level'):
            continue
        rng = np.random.default_rng(zlib.crc32(f'{name}/{salt}'.encode()))
        if name.endswith('running_var') or (tensor.dim() == 1 and name.endswith('weight')):
            values = rng.uniform(0.5, 1.5, tensor.shape)
        elif tensor.dim() <= 1:
            values = rng.normal(0, 0.1, tensor.shape)
        else:
            values = rng.normal(0, np.prod(tensor.shape[1:]) ** -0.5, tensor.shape)
        tensor.copy_(torch.from_numpy(values))
    return module


def data_sample(boxes=(), labels=(), img_shape=(64, 64), batch_shape=None, scale_factor=(1.0, 1.0)):
    """A data sample with ground truth in input pixels."""
    batch_shape = batch_shape or img_shape
    ori_shape = tuple(round(n / s) for n, s in zip(img_shape, scale_factor[::-1]))
    sample = DetDataSample(
        metainfo=dict(
            img_shape=img_shape,
            batch_input_shape=batch_shape,
            pad_shape=batch_shape,
            ori_shape=ori_shape,
            scale_factor=scale_factor,
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return sample


class Squares(torch.utils.data.Dataset):
    """Images with one bright square each, as mmdet's data sets hand them over."""

    metainfo = dict(classes=('a', 'b', 'c', 'd'))

    def __init__(self, size=4, side=64):
        self.size, self.side = size, side

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        x, y = (int(n) for n in rng.integers(0, self.side // 2, 2))
        length, label = self.side // 3, index % 4
        image = rng.integers(0, 60, (3, self.side, self.side), dtype=np.uint8)
        image[:, y : y + length, x : x + length] = 60 + 60 * label
        sample = data_sample(
            [[x, y, x + length, y + length]], [label], img_shape=(self.side, self.side)
        )
        sample.set_metainfo(dict(img_id=index))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)


def tiny_runner(work_dir, model=None, hooks=(), dataset=None, runner_type='Runner', **settings):
    """A runner that trains TINY_RTDETR on :class:`Squares`, without validation."""
    import mmengine.runner

    preprocessor = dict(type='DetDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255])
    config = dict(
        model=dict(TINY_RTDETR, data_preprocessor=preprocessor, **(model or {})),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset or Squares(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4), clip_grad=dict(max_norm=0.1)
        ),
        custom_hooks=list(hooks),
        default_scope='mmdet',
        randomness=dict(seed=0),
        log_level='WARNING',
        experiment_name=f'tiny_{np.random.default_rng().integers(2**62)}',
    )
    config.update(settings)
    return getattr(mmengine.runner, runner_type)(**config)
