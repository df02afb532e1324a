"""Two processes on CPUs, joined over gloo, train as one process does."""

import copy
import datetime
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import TINY_RTDETR, data_sample, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel, MMFullyShardedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import RUNNERS, STRATEGIES, init_default_scope
from mmengine.utils import digit_version
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

import mmdet_vanilla  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
# Boxes of objects that images have from the first on.
BOXES = [[4.0, 6, 40, 50], [10, 20, 60, 60], [2, 30, 20, 44]]
OPTIM_WRAPPER = dict(
    type='OptimWrapper',
    constructor='ParamGroupOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0, bias_decay_mult=0
    ),
)


def build(**head):
    init_default_scope('mmdet')
    cfg = copy.deepcopy(TINY_RTDETR)
    cfg['bbox_head'].update(head)
    return stand_in_weights(MODELS.build(cfg)).train()


def images(counts, seed=0):
    """A batch of images with so many objects each."""
    generator = torch.Generator().manual_seed(seed)
    return dict(
        inputs=torch.rand(len(counts), 3, 64, 64, generator=generator),
        data_samples=[data_sample(BOXES[:n], range(n)) for n in counts],
    )


def half_of(data, rank):
    """What one of two processes has of a batch."""
    size = len(data['inputs']) // 2
    return {key: value[rank * size : (rank + 1) * size] for key, value in data.items()}


def _process(rank, worker, folder, args):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=90),
    )
    torch.save(worker(rank, *args), f'{folder}/{rank}.pt')
    dist.barrier()
    dist.destroy_process_group()


def in_two_processes(worker, folder, *args, seconds=100):
    """What ``worker(rank, *args)`` returns in each of two joined processes."""
    context = torch.multiprocessing.spawn(
        _process, (worker, str(folder), args), nprocs=2, join=False
    )
    deadline = time.monotonic() + seconds
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail(f'the processes hang: not done after {seconds} s')
    return [torch.load(f'{folder}/{rank}.pt') for rank in range(2)]


def gradients_of(model, data, forward):
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()  # or each process would normalise with its own images
    losses = forward(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return {name: param.grad for name, param in model.named_parameters() if param.requires_grad}


# Objects of the images of both processes, and settings of the head.
CASES = [
    ((3, 1, 2, 0), dict(num_denoising=0)),
    ((3, 2, 0, 0), dict(num_denoising=0)),
    ((3, 1), dict(num_denoising=0)),
    # Denoising without noise leaves nothing to chance; both processes make as many groups.
    ((2, 1, 2, 0), dict(num_denoising=6, label_noise_ratio=0, box_noise_scale=0)),
]


def prepare(counts, head):
    data = images(counts)
    data['inputs'] = data['inputs'].double()
    return build(**head).double(), data


def distributed_gradients(rank):
    results = []
    for case in CASES:
        model, data = prepare(*case)
        results.append(gradients_of(model, half_of(data, rank), MMDistributedDataParallel(model)))
    return results


@pytest.mark.slow
def test_gradients_are_those_of_one_process_with_the_whole_batch(tmp_path):
    both = in_two_processes(distributed_gradients, tmp_path)
    for case, *results in zip(CASES, *both):
        model, data = prepare(*case)
        expected = gradients_of(model, data, model)
        assert any(grad.abs().max() > 1e-3 for grad in expected.values())
        for result in results:
            assert set(result) == set(expected)
            for name, grad in expected.items():
                torch.testing.assert_close(result[name], grad, rtol=1e-9, atol=1e-9)


def train(rank, counts):
    """Trains for 50 steps on images with ``counts[rank]`` objects.

    Returns:
        The parameters, and the names of those without gradient in a step of this process alone.
    """
    torch.manual_seed(rank)
    model = build()
    wrapped = MMDistributedDataParallel(model)
    optim_wrapper = build_optim_wrapper(wrapped, OPTIM_WRAPPER)
    for step in range(50):
        wrapped.train_step(images([counts[rank]], seed=2 * step + rank), optim_wrapper)
    parameters = {name: param.detach().clone() for name, param in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.parse_losses(model(**images([counts[rank]]), mode='loss'))[0].backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    return parameters, without


@pytest.mark.slow
@pytest.mark.parametrize('counts', [(2, 0), (0, 0)])
def test_processes_without_objects_neither_hang_nor_drift(tmp_path, counts):
    (first, without), (second, without2) = in_two_processes(train, tmp_path, counts)
    assert without == without2 == []
    assert 'bbox_head.denoising_class_embed.weight' in first
    start = dict(build().named_parameters())
    assert all(torch.equal(first[name], second[name]) for name in start)
    assert all(param.isfinite().all() for param in first.values())
    assert any(not torch.equal(first[name], param) for name, param in start.items())


def train_sharded(rank):
    """Parameter groups under FSDP, and whether training changes the parameters."""
    model = MMFullyShardedDataParallel(build(), device_id=torch.device('cpu'))
    optim_wrapper = build_optim_wrapper(model, dict(OPTIM_WRAPPER, clip_grad=None))
    before = [param.detach().clone() for param in model.parameters()]
    for step in range(3):
        model.train_step(images([2, 1], seed=2 * step + rank), optim_wrapper)
    changed = any(not torch.equal(old, new) for old, new in zip(before, model.parameters()))
    return groups_of(optim_wrapper), changed


def groups_of(optim_wrapper):
    groups = optim_wrapper.optimizer.param_groups
    return [(group['lr'], group['weight_decay'], len(group['params'])) for group in groups]


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.2'),
    reason='FSDP of torch 2.1 does not run on a CPU',
)
def test_parameter_groups_are_the_same_under_fsdp(tmp_path):
    expected = groups_of(build_optim_wrapper(build(), OPTIM_WRAPPER))
    assert len(expected) == 4
    for groups, changed in in_two_processes(train_sharded, tmp_path):
        assert groups == expected and changed


SAVE_PARAMETERS = """
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SaveParametersHook(Hook):
    def __init__(self, folder):
        self.folder = folder

    def after_train(self, runner):
        parameters = {name: p.detach() for name, p in runner.model.module.named_parameters()}
        torch.save(parameters, f'{self.folder}/rank{runner.rank}.pth')
"""


@pytest.mark.slow
def test_a_training_run_in_two_processes(tmp_path):
    """tools/train.py under torchrun without an accelerator, on a model that asks for SyncBN."""
    coco = dict(
        images=[dict(id=i, width=64, height=64, file_name=f'{i}.png') for i in range(4)],
        categories=[dict(id=i, name=name) for i, name in enumerate('abcd')],
        annotations=[
            dict(id=i + 1, image_id=i, category_id=i, bbox=[8, 8, 40, 40], area=1600, iscrowd=0)
            for i in range(3)
        ],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    for i in range(4):
        mmcv.imwrite(np.full((64, 64, 3), 60 * i, np.uint8), str(tmp_path / f'{i}.png'))
    model = copy.deepcopy(TINY_RTDETR)
    model['data_preprocessor'] = dict(type='DetDataPreprocessor')
    model['backbone']['norm_cfg'] = dict(type='SyncBN', eps=1e-6)
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='coco.json',
            data_prefix=dict(img='.'),
            metainfo=dict(classes=tuple('abcd')),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='PackDetInputs'),
            ],
        ),
    )
    cfg = dict(
        model=model,
        train_dataloader=loader,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2),
        optim_wrapper=OPTIM_WRAPPER,
        custom_imports=dict(imports=['mmdet_vanilla', 'save_parameters']),
        default_scope='mmdet',
        sync_bn='torch',
        # Exchanges parameters in the middle, after which the processes still average gradients.
        custom_hooks=[
            dict(type='DeepTrainingHook', end=1, by_epoch=False, merge_begin=2),
            dict(type='EMAHook', update_buffers=True),
            dict(type='SaveParametersHook', folder=str(tmp_path)),
        ],
        work_dir=str(tmp_path / 'work'),
    )
    (tmp_path / 'save_parameters.py').write_text(SAVE_PARAMETERS)
    config = tmp_path / 'config.py'
    Config(cfg).dump(config)
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    result = subprocess.run(
        [*command, 'tools/train.py', str(config), '--launcher', 'pytorch'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}:{tmp_path}', 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=100,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert output.count('SyncBN needs an accelerator') == 1
    assert output.count('Parameter groups:') == 1
    assert output.count('which train on') == 1
    state = torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=False)
    # Four images, one a step on each of two processes, twice.
    assert state['message_hub']['runtime_info']['iter'] == 3
    for part in ('state_dict', 'ema_state_dict'):
        names = [name for name in state[part] if 'backbone.stages.0.' in name]
        assert any('merged.0.weight' in name for name in names)
        assert not any('conv1' in name for name in names)
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1))
    assert first.keys() == second.keys() and any('merged' in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    'script, arguments, command',
    [
        (
            'dist_train.sh',
            ['c.py', '2'],
            'torchrun --nnodes=1 --node_rank=0 --master_addr=127.0.0.1 --master_port=29500 '
            '--nproc_per_node=2 tools/train.py c.py --launcher pytorch',
        ),
        (
            'dist_test.sh',
            ['c.py', 'w.pth', '2'],
            'torchrun --nnodes=1 --node_rank=0 --master_addr=127.0.0.1 --master_port=29500 '
            '--nproc_per_node=2 tools/test.py c.py w.pth --launcher pytorch',
        ),
        (
            'slurm_train.sh',
            ['part', 'job', 'c.py'],
            'srun --partition=part --job-name=job --ntasks=4 --ntasks-per-node=4 --gres=gpu:4 '
            '--cpus-per-task=5 --kill-on-bad-exit=1 --time 1:00 '
            'python -u tools/train.py c.py --launcher slurm',
        ),
        (
            'slurm_test.sh',
            ['part', 'job', 'c.py', 'w.pth'],
            'srun --partition=part --job-name=job --ntasks=4 --ntasks-per-node=4 --gres=gpu:4 '
            '--cpus-per-task=5 --kill-on-bad-exit=1 --time 1:00 '
            'python -u tools/test.py c.py w.pth --launcher slurm',
        ),
    ],
)
def test_launch_scripts(tmp_path, script, arguments, command):
    for name in ('torchrun', 'srun'):
        stand_in = tmp_path / name
        stand_in.write_text('#!/bin/sh\necho "$(basename "$0")" "$@"\n')
        stand_in.chmod(0o755)
    env = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--time 1:00')

    def launch(*arguments):
        return subprocess.run(
            [f'tools/{script}', *arguments], cwd=ROOT, env=env, capture_output=True, text=True
        )

    assert launch(*arguments, '--seed', 'a b').stdout == f'{command} --seed a b\n'
    missing = launch(*arguments[:-1])
    assert missing.returncode == 2 and missing.stdout == ''
    assert missing.stderr.startswith(f'usage: tools/{script} ')


@pytest.mark.parametrize('name', ['fsdp', 'deepspeed'])
def test_strategies_go_with_any_config(tmp_path, name):
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmdet_vanilla::_base_/../rtdetr_vanillanet6_coco.py',\n"
        f"          'mmdet_vanilla::_base_/strategies/{name}.py']\n"
    )
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.runner_type in RUNNERS
    assert STRATEGIES.get(cfg.strategy.type) is not None
    options = {key: value for key, value in cfg.strategy.items() if key not in ('type', '_scope_')}
    inspect.signature(STRATEGIES.get(cfg.strategy.type)).bind(**options)
