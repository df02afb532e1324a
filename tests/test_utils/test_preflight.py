import pytest
import torch
from mmengine.config import Config

from mmdet_vanilla.utils import preflight
from mmdet_vanilla.utils.preflight import (
    PreflightError,
    check_amp_device,
    enable_amp,
    prepare_cpu_processes,
)


@pytest.fixture
def device(monkeypatch):
    def set_device(name):
        monkeypatch.setattr(preflight, 'get_device', lambda: name)

    set_device('cpu')
    return set_device


@pytest.fixture
def cfg():
    return Config(
        dict(
            launcher='pytorch',
            optim_wrapper=dict(type='OptimWrapper'),
            model=dict(
                type='X',
                backbone=dict(type='VanillaNet', norm_cfg=dict(type='SyncBN', eps=1e-6)),
                heads=[dict(norm_cfg=dict(type='BN')), dict(norm_cfg=dict(type='MMSyncBN'))],
            ),
        )
    )


@pytest.fixture
def joined(monkeypatch):
    """Backends by which processes were joined."""
    backends = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', backends.append)
    return backends


def test_amp(cfg, device):
    check_amp_device(cfg)
    enable_amp(cfg)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    with pytest.raises(PreflightError, match='this machine has cpu: leave --amp out'):
        check_amp_device(cfg)
    device('mps')
    with pytest.raises(PreflightError, match='has mps'):
        check_amp_device(cfg)
    for name in ('cuda', 'npu'):
        device(name)
        check_amp_device(cfg)


def test_amp_of_a_class_and_without_optimizer(device):
    class AmpOptimWrapper:
        pass

    with pytest.raises(PreflightError, match='mixed precision'):
        check_amp_device(dict(optim_wrapper=dict(type=AmpOptimWrapper)))
    check_amp_device(dict())


def test_amp_with_a_strategy(cfg):
    cfg.strategy = dict(type='DeepSpeedStrategy')
    with pytest.raises(PreflightError, match='DeepSpeedStrategy.*strategy.bf16.enabled'):
        enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    cfg.strategy.type = 'FSDPStrategy'
    enable_amp(cfg)
    assert cfg.optim_wrapper.use_fsdp


def test_cpu_processes(cfg, device, joined, monkeypatch):
    messages = []
    monkeypatch.setattr(preflight, 'print_log', lambda text, **_: messages.append(text))
    prepare_cpu_processes(cfg)
    assert joined == ['gloo']
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model.backbone.norm_cfg == dict(type='BN', eps=1e-6)
    assert [head.norm_cfg.type for head in cfg.model.heads] == ['BN', 'BN']
    assert len(messages) == 1 and 'SyncBN needs an accelerator' in messages[0]

    cfg.sync_bn = 'torch'
    prepare_cpu_processes(cfg)
    assert cfg.sync_bn is None and len(messages) == 2
    cfg.model_wrapper_cfg = dict(type='Mine')
    prepare_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg.type == 'Mine' and len(messages) == 2


@pytest.mark.parametrize('name, launcher', [('cuda', 'pytorch'), ('cpu', 'none'), ('cpu', None)])
def test_other_runs_stay_as_they_are(cfg, device, joined, name, launcher):
    device(name)
    cfg.launcher = launcher
    prepare_cpu_processes(cfg)
    assert joined == [] and 'model_wrapper_cfg' not in cfg
    assert cfg.model.backbone.norm_cfg.type == 'SyncBN'


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(launcher='slurm'), 'launcher slurm needs an accelerator.*torchrun'),
        (dict(strategy=dict(type='FSDPStrategy')), 'FSDPStrategy needs an accelerator'),
    ],
)
def test_what_cannot_run_on_cpus(cfg, device, joined, changes, message):
    cfg.update(changes)
    with pytest.raises(PreflightError, match=message):
        prepare_cpu_processes(cfg)
    assert joined == []
