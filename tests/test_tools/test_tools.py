"""The command-line tools, from a COCO folder to detections, and what they say of bad input."""

import argparse
import ast
import contextlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import hostile_files as hostile
import numpy as np
import pytest
import torch
import yaml
from helpers import stand_in_weights
from hostile_files import MARKER
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_vanilla.utils import (
    WeightsError,
    read_checkpoint,
    to_official_state_dict,
    write_checkpoint,
)
from mmdet_vanilla.utils.classes import classes_of
from mmdet_vanilla.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
COCO_CONFIG = str(ROOT / 'configs' / 'rtdetr_vanillanet6_coco.py')
CLASSES = CocoDataset.METAINFO['classes']
# Narrow and small: what is tested is that the parts fit together.
SMALL = [
    'model.backbone.widen_factor=0.015625',
    'model.neck.out_channels=32',
    'model.neck.feedforward_channels=32',
    'model.bbox_head.embed_dims=32',
    'model.bbox_head.feedforward_channels=32',
    'train_dataloader.dataset.pipeline.7.scale=(96,96)',
    *(f'{mode}_dataloader.dataset.pipeline.1.scale=(96,96)' for mode in ('val', 'test')),
    *(f'{mode}_dataloader.num_workers=0' for mode in ('train', 'val', 'test')),
    *(f'{mode}_dataloader.persistent_workers=False' for mode in ('train', 'val', 'test')),
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
    'default_hooks.batch_augments.schedule.multi_scale.augment.sizes=[96,128]',
    # The authors publish no weights of this width.
    'model.backbone.init_cfg=None',
]


def make_coco(root, images=4):
    """A tiny folder laid out as COCO, with rectangles of several classes."""
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        folder = root / 'data' / 'coco' / split
        folder.mkdir(parents=True)
        content = dict(images=[], annotations=[])
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
        for i in range(1, images + 1):
            height, width = (80, 120) if i % 2 else (100, 70)
            image = np.full((height, width, 3), 200, np.uint8)
            for _ in range(i - 1):  # the first image has no box
                x, y = int(rng.integers(0, width - 34)), int(rng.integers(0, height - 34))
                w, h = (int(n) for n in rng.integers(20, 34, 2))
                category = int(rng.integers(1, 81))
                cv2.rectangle(image, (x, y), (x + w, y + h), (category * 3, 80, 10), -1)
                content['annotations'].append(
                    dict(
                        id=len(content['annotations']) + 1,
                        image_id=i,
                        category_id=category,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(folder / f'{i:012d}.jpg'), image)
            content['images'].append(
                dict(id=i, file_name=f'{i:012d}.jpg', height=height, width=width)
            )
        annotations = root / 'data' / 'coco' / 'annotations'
        annotations.mkdir(exist_ok=True)
        (annotations / f'instances_{split}.json').write_text(json.dumps(content))


def call(cwd, tool, *args):
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def test_train_resume_test_and_detect(coco, capfd):
    run = coco / 'run'
    train = ('train.py', COCO_CONFIG, '--work-dir', run)
    call(coco, *train, '--cfg-options', *SMALL, 'train_cfg.max_epochs=1')
    assert (run / 'epoch_1.pth').exists()
    run_tool(*train, '--resume', '--cfg-options', *SMALL, 'train_cfg.max_epochs=2')
    log = ''.join(capfd.readouterr())
    assert 'resumed epoch: 1' in log and 'Epoch(val) [2]' in log
    checkpoint = run / 'epoch_2.pth'

    config = run / 'rtdetr_vanillanet6_coco.py'  # as dumped: must build again
    dumped = Config.fromfile(config)
    assert not dumped.resume and dumped.load_from is None
    for options in ([], ['--fuse', '--tta']):
        out = run / f'test{len(options)}'
        run_tool('test.py', config, checkpoint, '--work-dir', out, *options)
        metrics = json.loads(next(out.glob('*/*.json')).read_text())
        assert 0 <= metrics['coco/bbox_mAP'] <= metrics['coco/bbox_mAP_50'] <= 1

    images = coco / 'data' / 'coco' / 'val2017'
    run_tool('image_demo.py', images, config, '--weights', checkpoint, '--device', 'cpu')
    predictions = [json.loads(p.read_text()) for p in (coco / 'outputs/preds').glob('*.json')]
    assert len(predictions) == 4 and all(len(p['bboxes']) == 300 for p in predictions)
    assert len(list((coco / 'outputs' / 'vis').glob('*.jpg'))) == 4


def test_mmdets_own_tools_take_our_configs(tmp_path):
    import mmdet

    make_coco(tmp_path)
    tool = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    command = [sys.executable, tool, COCO_CONFIG, '--work-dir', 'run', '--cfg-options', *SMALL]
    command += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=2']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()


def test_benchmark(tmp_path, capsys):
    config = str(ROOT / 'configs' / 'rtdetr_vanillanet_nano_coco.py')
    file = tmp_path / 'figures.json'
    few = ('--size', '64', '--rounds', '1', '--json', str(file))
    run_tool('benchmark.py', 'inference', config, '--forms', 'training form', 'fused', *few)
    content = json.loads(file.read_text())
    assert content['machine']['conv'] > 0 and content['machine']['versions']['torch']
    assert set(content['results']) == {
        f'{name}, batch 1, size 64' for name in ('training form', 'fused')
    }
    run_tool('benchmark.py', 'profile', config, '--training', *few)
    assert '| matching |' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, message',
    [
        (('--forms', 'transformers'), 'requirements/peers.txt'),
        (('--json', 'nowhere/figures.json'), 'cannot write nowhere/figures.json'),
    ],
)
def test_benchmark_says_what_is_wrong_before_it_measures(options, message, capsys):
    config = str(ROOT / 'configs' / 'rtdetr_vanillanet_nano_coco.py')
    assert message in error_of(capsys, 'benchmark.py', 'inference', config, *options)


def test_get_flops(capsys):
    run_tool('get_flops.py', COCO_CONFIG, '--shape', '64', '64', '--fuse')
    assert 'fused form' in capsys.readouterr().out


def test_load_from_takes_an_official_checkpoint(coco, capfd):
    cfg = Config.fromfile(COCO_CONFIG)
    for option in SMALL[:5]:
        key, value = option.split('=')
        cfg.merge_from_dict({key: float(value) if '.' in value else int(value)})
    model = stand_in_weights(MODELS.build(cfg.model))
    state = to_official_state_dict(model.state_dict())
    torch.save(dict(ema=dict(module=state, updates=1)), 'official.pth')
    options = [*SMALL, 'load_from=official.pth', 'train_cfg.max_epochs=1']
    # Nothing moves the weights, and nothing averages them with others.
    options += ['optim_wrapper.optimizer.lr=0.0', 'custom_hooks=[]', 'train_cfg.val_interval=2']
    run_tool('train.py', COCO_CONFIG, '--work-dir', 'run', '--cfg-options', *options)
    assert 'Converted the weights of RT-DETR of the authors' in ''.join(capfd.readouterr())
    trained = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    for name, param in model.named_parameters():
        assert torch.equal(trained[name], param), name


def test_convert_weights(tmp_path, golden, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs = {k: v.float() for k, v in golden.state_dict('rtdetr_r18vd').items()}
    torch.save(dict(ema=dict(module=theirs)), 'theirs.pth')
    run_tool('convert_weights.py', 'theirs.pth', 'ours.safetensors')
    out = capsys.readouterr().out
    assert 'Recognised RT-DETR of the authors' in out and 'rtdetr_r18vd_coco.py' in out
    run_tool(
        'convert_weights.py', 'ours.safetensors', 'ours.pth', '--config', 'rtdetr_r18vd_coco.py'
    )
    assert len(read_checkpoint('ours.pth')['meta']['dataset_meta']['classes']) == 80
    run_tool('convert_weights.py', 'ours.pth', 'back.pth', '--to', 'official')
    back = read_checkpoint('back.pth')['model']
    assert all(torch.equal(back[key], tensor) for key, tensor in theirs.items())

    error = error_of(capsys, 'convert_weights.py', 'theirs.pth', 'ours.pth')
    assert 'ours.pth exists' in error
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'theirs.pth').read_bytes()[:50000])
    assert 'is damaged' in error_of(capsys, 'convert_weights.py', 'cut.pth', 'x.pth')
    assert 'no checkpoint at' in error_of(capsys, 'convert_weights.py', 'none.pth', 'x.pth')
    assert 'must end in' in error_of(capsys, 'convert_weights.py', 'theirs.pth', 'x.onnx')
    torch.save({'fc.weight': torch.zeros(2)}, 'resnet.pth')
    assert 'not recognised' in error_of(capsys, 'convert_weights.py', 'resnet.pth', 'x.pth')
    theirs['decoder.enc_score_head.bias'][3] = float('nan')
    torch.save(theirs, 'nan.pth')
    assert 'NaN' in error_of(capsys, 'convert_weights.py', 'nan.pth', 'x.pth')
    assert not list(tmp_path.glob('x.pth*'))


def run_tool(tool, *args):
    """Runs a tool in this process."""
    argv, sys.argv = sys.argv, [tool, *map(str, args)]
    try:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    finally:
        sys.argv = argv


def error_of(capsys, tool, *args):
    """The one line that a tool prints when it refuses its input."""
    with pytest.raises(SystemExit) as exit_info:
        run_tool(tool, *args)
    assert exit_info.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def coco(tmp_path, monkeypatch):
    make_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit_annotations(root, edit):
    for path in (root / 'data' / 'coco' / 'annotations').glob('*.json'):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))


def test_no_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error = error_of(capsys, 'train.py', COCO_CONFIG)
    assert 'data/coco/annotations/instances_train2017.json' in error
    assert str(tmp_path) in error and 'cocodataset.org' in error and 'data_root' in error
    assert not list(tmp_path.iterdir())


def test_no_images(coco, capsys):
    (coco / 'data/coco/val2017').rename(coco / 'elsewhere')
    assert 'no image folder of the val data' in error_of(capsys, 'train.py', COCO_CONFIG)


def test_no_config(capsys):
    assert 'no config at nowhere.py' in error_of(capsys, 'train.py', 'nowhere.py')
    assert 'no config at nowhere.py' in error_of(capsys, 'test.py', 'nowhere.py', 'x.pth')
    assert 'no config at nowhere.py' in error_of(capsys, 'get_flops.py', 'nowhere.py')


def test_no_checkpoint(coco, capsys):
    assert 'no checkpoint at x.pth' in error_of(capsys, 'test.py', COCO_CONFIG, 'x.pth')
    args = ('image_demo.py', 'data', COCO_CONFIG, '--weights', 'x.pth')
    assert 'no checkpoint at x.pth' in error_of(capsys, *args)
    args = ('train.py', COCO_CONFIG, '--resume', 'x.pth')
    assert 'no checkpoint at x.pth' in error_of(capsys, *args)


def test_bad_override(coco, capsys):
    args = (
        'train.py',
        COCO_CONFIG,
        '--cfg-options',
        'train_dataloader.dataset.pipeline.77.scale=1',
    )
    assert '--cfg-options does not fit' in error_of(capsys, *args)


def test_empty_data(coco, capsys):
    edit_annotations(coco, lambda content: content.update(images=[], annotations=[]))
    assert 'the train data set is empty' in error_of(capsys, 'train.py', COCO_CONFIG)


def test_broken_annotations(coco, capsys):
    (coco / 'data/coco/annotations/instances_train2017.json').write_text('{"images": [')
    assert 'is not a COCO annotation file' in error_of(capsys, 'train.py', COCO_CONFIG)


def test_other_classes(coco, capsys):
    edit_annotations(coco, lambda c: c.update(categories=[dict(id=1, name='cell')]))
    error = error_of(capsys, 'train.py', COCO_CONFIG)
    assert '(cell)' in error and 'metainfo.classes' in error


def test_other_number_of_classes(coco, capsys):
    args = ('train.py', COCO_CONFIG, '--cfg-options', 'model.bbox_head.num_classes=3')
    error = error_of(capsys, *args)
    assert 'has 80 classes, but model.bbox_head.num_classes is 3' in error


def write_evil(kind, path='evil.pth'):
    """A file that runs code, or waits for ever, where it is not read with care."""
    command = hostile.call(('os', 'system'), f'touch {MARKER}')
    if kind == 'pipe':
        os.mkfifo(path)
        return
    if kind == 'class state':
        # What broke the promise once: the error that it makes had the file read again.
        attributes = hostile.dict_of(__init__=1, __setattr__=1)
        state = hostile.state(hostile.name('argparse', 'Namespace'), attributes)
        content = hostile.archive(hostile.root(hostile.list_of(state, command)))
    elif kind == 'program':
        content = hostile.hostile_files()['an archive in the comment']
    else:
        content = hostile.archive(hostile.root(command))
    Path(path).write_bytes(content)


KINDS = ['code', 'class state', 'program', 'pipe']


def _pretrained(part):
    return [
        f'model.{part}.init_cfg.type=Pretrained',
        f'model.{part}.init_cfg.checkpoint=evil.pth',
    ]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'args',
    [
        ('train.py', COCO_CONFIG, '--cfg-options', *SMALL, 'load_from=evil.pth'),
        ('train.py', COCO_CONFIG, '--resume', 'evil.pth', '--cfg-options', *SMALL),
        ('train.py', COCO_CONFIG, '--work-dir', 'run', '--resume', '--cfg-options', *SMALL),
        ('train.py', COCO_CONFIG, '--work-dir', 'run', '--cfg-options', *SMALL, 'resume=True'),
        ('test.py', COCO_CONFIG, 'evil.pth', '--cfg-options', *SMALL),
        (
            *('train.py', COCO_CONFIG, '--resume', 'evil.pth', '--cfg-options', *SMALL),
            *('runner_type=FlexibleRunner', 'custom_hooks=[]'),
        ),
        ('train.py', COCO_CONFIG, '--cfg-options', *SMALL[:-1], *_pretrained('backbone')),
        ('train.py', COCO_CONFIG, '--cfg-options', *SMALL, *_pretrained('neck')),
        (
            *(
                'deploy.py',
                COCO_CONFIG,
                'evil.pth',
                '--work-dir',
                'shipped',
                '--image',
                'data/coco/val2017',
            ),
            *('--deploy-config', str(ROOT / 'configs/deploy/onnxruntime_dynamic.py')),
        ),
        ('image_demo.py', 'data', COCO_CONFIG, '--weights', 'evil.pth'),
        ('measure_precision.py', COCO_CONFIG, '--weights', 'evil.pth'),
        ('measure_prediction_memory.py', COCO_CONFIG, '--weights', 'evil.pth'),
        ('convert_weights.py', 'evil.pth', 'x.pth'),
        ('compare.py', f'{COCO_CONFIG}::evil.pth'),
    ],
    ids=lambda args: args[0],
)
def test_code_in_a_checkpoint_is_not_run(coco, capsys, no_hanging, args, kind):
    write_evil(kind)
    if '--work-dir' in args and 'run' in args:
        (coco / 'run').mkdir()
        write_evil(kind, 'run/evil.pth')
        (coco / 'run' / 'last_checkpoint').write_text('run/evil.pth')
        if kind in ('program', 'pipe'):  # not taken for a checkpoint: the training begins
            with contextlib.suppress(SystemExit):
                run_tool(*args, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=2')
            assert not (coco / MARKER).exists()
            return
    before = dict(vars(argparse.Namespace))
    assert 'evil.pth' in error_of(capsys, *args)
    assert not (coco / MARKER).exists()
    assert dict(vars(argparse.Namespace)) == before


@pytest.mark.parametrize('kind', KINDS)
def test_code_in_a_checkpoint_is_not_run_by_functions(coco, no_hanging, kind):
    """What tools call that train first, and would take minutes."""
    from mmdet_vanilla.comparison.detectors import config_of, load_detector
    from mmdet_vanilla.comparison.items import parse_item
    from mmdet_vanilla.deploy import exporter
    from mmdet_vanilla.utils.checkpoint import restrict_mmengine_loading

    write_evil(kind)
    restrict_mmengine_loading()
    cfg = Config.fromfile(COCO_CONFIG)

    def item():
        return parse_item(f'{COCO_CONFIG}::evil.pth')

    demo = runpy.run_path(str(ROOT / 'tools' / 'demo.py'))
    for read in (
        lambda: config_of(item()),
        lambda: load_detector(item()),
        lambda: exporter.load_model(cfg, 'evil.pth'),
        lambda: demo['save_fused'](COCO_CONFIG, 'evil.pth', 'x.pth'),
    ):
        with pytest.raises((UserError, FileNotFoundError), match=r'evil\.pth'):
            read()
    assert not (coco / MARKER).exists()


def test_nothing_else_reads_pickles():
    """Checkpoints are read by utils/checkpoint.py alone; a runtime reads what was exported."""
    readers = {
        'load',
        '_load_from_bytes',
        'load_url',
        'load_state_dict_from_url',
        'from_pretrained',
    }
    owners = {'torch', 'jit', 'pickle', 'joblib', 'dill', 'hub', 'model_zoo', 'mmengine'}
    found = []
    for folder in ('mmdet_vanilla', 'tools', 'configs'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in readers:
                    owner = node.value.attr if isinstance(node.value, ast.Attribute) else None
                    owner = owner or getattr(node.value, 'id', '')
                    if owner in owners:
                        found.append(f'{path.relative_to(ROOT)}: {owner}.{node.attr}')
    expected = ['mmdet_vanilla/deploy/runtimes.py: jit.load']
    assert sorted(found) == expected + ['mmdet_vanilla/utils/checkpoint.py: torch.load'] * 3


@pytest.mark.parametrize(
    'args',
    [
        ('get_flops.py', 'evil.py', '--shape', '64', '64'),
        ('benchmark.py', 'profile', 'evil.py', '--size', '64', '--rounds', '1', '--training'),
        ('overfit.py', 'evil.py', '--images', '2', '--steps', '1'),
    ],
    ids=lambda args: args[0],
)
def test_code_in_weights_that_a_config_names_is_not_run(coco, capsys, args):
    """Tools that build a model without its weights go on; the others refuse them."""
    write_evil('class state')
    options = {key: yaml.safe_load(value) for key, value in (o.split('=') for o in SMALL[:5])}
    cfg = Config.fromfile(COCO_CONFIG)
    cfg.merge_from_dict(options)
    cfg.merge_from_dict(dict(o.split('=') for o in _pretrained('backbone')))
    cfg.load_from = 'evil.pth'
    cfg.dump('evil.py')
    if args[0] == 'overfit.py':
        assert 'evil.pth holds' in error_of(capsys, *args)
    else:
        run_tool(*args)
    assert not (coco / MARKER).exists()


def test_checkpoint_of_another_model(coco, capsys):
    from mmdet_vanilla.models import VanillaNet

    torch.save(dict(state_dict=VanillaNet('5', widen_factor=1 / 64).state_dict()), 'other.pth')
    options = ['--cfg-options', *SMALL]
    error = error_of(capsys, 'test.py', COCO_CONFIG, 'other.pth', *options)
    assert 'other.pth does not belong to this RTDETR' in error and 'missing (backbone.' in error
    error = error_of(capsys, 'train.py', COCO_CONFIG, *options, 'load_from=other.pth')
    assert 'other.pth does not belong to this RTDETR' in error


def small_config():
    """The config with a small model, as a file; and its weights."""
    cfg = Config.fromfile(COCO_CONFIG)
    options = {key: ast.literal_eval(value) for key, value in (o.split('=') for o in SMALL)}
    cfg.merge_from_dict(options)
    cfg.model.backbone.pop('init_cfg', None)
    cfg.dump('small.py')
    return 'small.py', stand_in_weights(MODELS.build(cfg.model)).state_dict()


def test_weights_that_are_not_finite_are_refused(coco, capsys):
    from mmdet_vanilla.comparison.detectors import load_detector
    from mmdet_vanilla.comparison.items import parse_item
    from mmdet_vanilla.deploy import exporter

    config, weights = small_config()
    broken = 'bbox_head.enc_score_head.weight'
    weights[broken][0, 0] = float('nan')
    torch.save(dict(state_dict=weights), 'nan.pth')
    for args in (
        ('test.py', config, 'nan.pth'),
        ('image_demo.py', 'data/coco/val2017', config, '--weights', 'nan.pth'),
    ):
        error = error_of(capsys, *args)
        assert f'nan.pth holds numbers that are NaN or infinite: {broken} (1 of' in error
    for load in (
        lambda: load_detector(parse_item(f'{config}::nan.pth')),
        lambda: exporter.load_model(Config.fromfile(config), 'nan.pth'),
    ):
        with pytest.raises(WeightsError, match=broken):
            load()


def test_every_tool_takes_safetensors(coco, capsys):
    """Classes and deploy form come from its texts; the config in it is never run."""
    from mmdet_vanilla.comparison.detectors import config_of, load_detector
    from mmdet_vanilla.comparison.items import parse_item
    from mmdet_vanilla.deploy import exporter

    config, weights = small_config()
    names = tuple(f'thing {i}' for i in range(80))
    meta = dict(dataset_meta=dict(classes=names), cfg=f"open({MARKER!r}, 'w')", epoch=3)
    write_checkpoint(dict(state_dict=weights, meta=meta), 'x.safetensors')
    content = read_checkpoint('x.safetensors')
    assert all(torch.equal(content['state_dict'][k], v) for k, v in weights.items())
    assert content['meta'] == dict(dataset_meta=dict(classes=names), cfg=meta['cfg'])

    item = parse_item(f'{config}::x.safetensors')
    detector = load_detector(item)
    assert detector.classes == names and config_of(item).model.bbox_head.num_classes == 80
    assert exporter.load_model(Config.fromfile(config), 'x.safetensors')[1] == list(names)
    run_tool('convert_weights.py', 'x.safetensors', 'y.pth', '--config', config)
    assert classes_of(read_checkpoint('y.pth')) == names
    image = 'data/coco/val2017'
    run_tool('image_demo.py', image, config, '--weights', 'x.safetensors', '--score-thr', '0.9')
    edit_annotations(
        coco, lambda c: c.update(categories=[dict(id=i, name=n) for i, n in enumerate(names)])
    )
    run_tool('test.py', config, 'x.safetensors', '--work-dir', 'test')
    error = error_of(capsys, 'train.py', COCO_CONFIG, '--resume', 'x.safetensors')
    assert 'x.safetensors holds weights alone' in error
    assert not (coco / MARKER).exists()
