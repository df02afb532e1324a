"""What the tools begin with: a file that lies in the cache, nothing, or a sentence."""

import runpy
import sys

import pytest
import torch
from helpers import stand_in_weights
from mmdet.apis import DetInferencer, init_detector
from mmdet.registry import MODELS
from test_tools import COCO_CONFIG, ROOT, SMALL, make_coco

from mmdet_vanilla.comparison.detectors import build_model
from mmdet_vanilla.deploy.exporter import load_model
from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils.checkpoint import read_checkpoint
from mmdet_vanilla.utils.preflight import load_config

ARCH = dict(dims=[8, 16, 32, 64], strides=[2, 2, 2])
# Narrow by an arch of its own, not by widen_factor, and with the weights that the config names.
OPTIONS = [
    'model.backbone.arch=test',
    *SMALL[1:-1],
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=2',
    'default_hooks.results=None',
    'custom_hooks=[]',
    # Nothing moves the weights.
    'optim_wrapper.optimizer.lr=0.0',
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with data, an empty cache of torch's, no network, and a small member of the zoo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    for scheme in ('http', 'https'):
        monkeypatch.setenv(f'{scheme}_proxy', 'http://127.0.0.1:1')
    monkeypatch.setitem(VanillaNet.arch_zoo, 'test', ARCH)
    monkeypatch.setitem(VanillaNet.authors_files, ('test', 3), 'vanillanet_test.pth')
    make_coco(tmp_path)
    return tmp_path


@pytest.fixture
def file(folder):
    """The authors' file, where a person would put it: EMA weights with a classifier."""
    cache = folder / 'torch' / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    state = stand_in_weights(VanillaNet('test')).state_dict()
    content = {**state, 'cls1.2.weight': torch.zeros(5, 64, 1, 1), 'cls2.0.bias': torch.zeros(5)}
    torch.save(dict(model_ema=content), cache / 'vanillanet_test.pth')
    return state


@pytest.fixture
def detector():
    """A checkpoint of the whole detector."""
    cfg = config()
    model = stand_in_weights(MODELS.build(cfg.model))
    torch.save(dict(state_dict=model.state_dict()), 'detector.pth')
    return model.state_dict()


def config():
    names = [option for option in OPTIONS if option.startswith('model.')]
    options = dict(option.removeprefix('model.').split('=') for option in names)
    options = {f'model.{k}': v if k == 'backbone.arch' else int(v) for k, v in options.items()}
    return load_config(COCO_CONFIG, options)


def run_tool(tool, *args):
    argv, sys.argv = sys.argv, [tool, *map(str, args)]
    try:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    finally:
        sys.argv = argv


def train(*args, options=()):
    options = [*OPTIONS, *options]
    run_tool('train.py', COCO_CONFIG, '--work-dir', 'run', *args, '--cfg-options', *options)
    return read_checkpoint('run/epoch_1.pth')['state_dict']


def test_begins_with_the_authors_weights_without_deep_training(file, capfd):
    trained = train()
    log = ''.join(capfd.readouterr())
    for name, tensor in file.items():
        if 'running' not in name and 'num_batches' not in name:
            assert torch.equal(trained[f'backbone.{name}'], tensor), name
    assert 'left out cls1.2.weight, cls2.0.bias' in log
    assert 'the weights are pretrained, so act_learn stays at 1' in log
    assert 'Random weights' not in log


def test_from_scratch_runs_the_schedule_on_random_weights(file, capfd):
    trained = train('--from-scratch')
    log = ''.join(capfd.readouterr())
    assert not torch.equal(trained['backbone.stem1.0.weight'], file['stem1.0.weight'])
    assert 'act_learn stays at 1' not in log and 'act_learn: 0.0000' in log
    assert 'learning rate of backbone x0.1 -> x1' in log
    dumped = load_config('run/rtdetr_vanillanet6_coco.py')
    assert dumped.model.backbone.init_cfg is None


@pytest.mark.parametrize('tool', ['train.py', 'overfit.py'])
def test_no_file_and_no_network_is_one_sentence_before_anything_is_built(folder, capsys, tool):
    if tool == 'overfit.py':
        load_config(COCO_CONFIG).dump('mine.py')
        args = ('mine.py',)
    else:
        args = (COCO_CONFIG, '--work-dir', 'run')
    with pytest.raises(SystemExit) as exit_info:
        run_tool(tool, *args)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    path = folder / 'torch' / 'hub' / 'checkpoints' / 'vanillanet_6.pth'
    assert 'vanillanet_6.pth, the weights that the backbone begins with' in error
    assert f'put it to {path}, or train without it by --from-scratch.' in error
    assert not (folder / 'run').exists()


def test_load_from_and_resume_look_for_no_other_file(detector):
    trained = train(options=['load_from=detector.pth'])
    assert torch.equal(trained['backbone.stem1.0.weight'], detector['backbone.stem1.0.weight'])
    options = [*OPTIONS, 'train_cfg.max_epochs=2']
    run_tool('train.py', COCO_CONFIG, '--work-dir', 'run', '--resume', '--cfg-options', *options)
    assert read_checkpoint('run/epoch_2.pth')['meta']['epoch'] == 2


@pytest.mark.parametrize('runner', [[], ['runner_type=FlexibleRunner']])
def test_testing_looks_for_no_other_file(detector, runner):
    options = [*OPTIONS, *runner]
    run_tool(
        'test.py', COCO_CONFIG, 'detector.pth', '--work-dir', 'test', '--cfg-options', *options
    )


def test_what_loads_a_checkpoint_looks_for_no_other_file(detector):
    config().dump('mine.py')
    cfg = load_config('mine.py')
    models = [
        init_detector('mine.py', 'detector.pth', device='cpu', palette='random'),
        DetInferencer('mine.py', 'detector.pth', device='cpu', show_progress=False).model,
        load_model(cfg, 'detector.pth')[0],
        build_model(cfg, 'detector.pth')[0],
    ]
    for model in models:
        weight = model.backbone.stem1[0].weight
        assert torch.equal(weight, detector['backbone.stem1.0.weight'])


def test_frozen_random_layers_of_any_backbone_are_refused(capsys):
    """Also in a config that knows nothing of this package's hooks."""
    cfg = config()
    cfg.model.backbone = dict(
        type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3), frozen_stages=1
    )
    cfg.model.neck.in_channels = [16, 32, 64]
    for hook in ('initial_weights', 'deep_training'):
        del cfg.default_hooks[hook]
    cfg.dump('foreign.py')
    args = ('train.py', 'foreign.py', '--work-dir', 'run')
    options = ('--cfg-options', *(o for o in OPTIONS if not o.startswith('model.')))
    with pytest.raises(SystemExit) as exit_info:
        run_tool(*args, *options)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'backbone.conv1, backbone.bn1' in error and '--from-scratch' in error
    run_tool(*args, '--from-scratch', *options)
    assert read_checkpoint('run/epoch_1.pth')['meta']['epoch'] == 1
