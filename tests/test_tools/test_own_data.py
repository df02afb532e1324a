"""Own data through the tools: classes from the data reach everything, and come back from there."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from helpers import stand_in_weights
from mmdet.registry import MODELS
from small_data import BOXES, CLASSES, coco, voc, write_coco, write_images, yolo

from mmdet_vanilla.utils.checkpoint import read_checkpoint
from mmdet_vanilla.utils.preflight import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs' / 'rtdetr_vanillanet6_coco.py')
OPTIONS = {
    'model.backbone.widen_factor': '0.015625',
    'model.neck.out_channels': '32',
    'model.neck.feedforward_channels': '32',
    'model.bbox_head.embed_dims': '32',
    'model.bbox_head.feedforward_channels': '32',
}
RUN_OPTIONS = {
    'train_dataloader.dataset.pipeline.7.scale': '(96,96)',
    **{f'{mode}_dataloader.dataset.pipeline.1.scale': '(96,96)' for mode in ('val', 'test')},
    **{f'{mode}_dataloader.num_workers': '0' for mode in ('train', 'val', 'test')},
    **{f'{mode}_dataloader.persistent_workers': 'False' for mode in ('train', 'val', 'test')},
    'default_hooks.batch_augments.schedule.multi_scale.augment.sizes': '[96]',
    'train_cfg.max_epochs': '1',
    'default_hooks.results': 'None',
    'default_hooks.deep_training': 'None',
    # The authors publish no weights of this width.
    'model.backbone.init_cfg': 'None',
}


def run_tool(tool, *args, options=None):
    argv = sys.argv
    sys.argv = [tool, *map(str, args)]
    if options:
        sys.argv += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    try:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    finally:
        sys.argv = argv


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val'):
        write_images(tmp_path / 'my data' / split)
        write_coco(tmp_path / 'my data' / f'{split}.json', coco())
    return tmp_path / 'my data'


def eighty_classes(classes):
    """A checkpoint of the same model with other classes."""
    cfg = load_config(CONFIG, {key: json.loads(value) for key, value in OPTIONS.items()})
    model = stand_in_weights(MODELS.build(cfg.model))
    content = dict(meta=dict(dataset_meta=dict(classes=classes)), state_dict=model.state_dict())
    torch.save(content, 'pretrained.pth')
    return content['state_dict']


def test_train_test_and_detect(data, capfd):
    known = [f'class {i}' for i in range(80)]
    known[5], known[71] = '猫', 'cat'
    before = eighty_classes(known)
    options = {**OPTIONS, **RUN_OPTIONS, 'load_from': 'pretrained.pth'}
    # Nothing moves the weights.
    options.update({'optim_wrapper.optimizer.lr': '0.0', 'custom_hooks': '[]'})
    run_tool('train.py', CONFIG, '--data', data, '--work-dir', 'run', options=options)
    out = ''.join(capfd.readouterr())
    assert '3 classes (cat, Hund, 猫)' in out and 'train: 5 images' in out
    assert 'Kept for 2 with the same name (cat, 猫); 1 start new (Hund).' in out
    checkpoint = read_checkpoint('run/epoch_1.pth')
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == CLASSES
    state = checkpoint['state_dict']
    for name in ('enc_score_head.weight', 'dec_score_head.2.bias', 'denoising_class_embed.weight'):
        name = f'bbox_head.{name}'
        assert len(state[name]) == 3 + ('embed' in name)
        assert torch.equal(state[name][[0, 2]], before[name][[71, 5]])
        assert not torch.equal(state[name][1], before[name][1])

    # The config still speaks of COCO: names and number come from the checkpoint.
    options = {**OPTIONS, **RUN_OPTIONS}
    args = (CONFIG, 'run/epoch_1.pth', '--data', data, '--work-dir', 'test')
    run_tool('test.py', *args, options=options)
    metrics = json.loads(next(Path('test').glob('*/*.json')).read_text())
    assert metrics['coco/bbox_mAP'] >= 0
    out = ''.join(capfd.readouterr())
    assert 'No test split found: evaluating on val.' in out

    config = next(Path('run').glob('*.py'))
    run_tool('image_demo.py', data / 'val', config, '--weights', 'run/epoch_1.pth')
    predictions = [json.loads(p.read_text()) for p in Path('outputs/preds').glob('*.json')]
    assert len(predictions) == len(BOXES)
    assert all(set(p['labels']) <= {0, 1, 2} for p in predictions)


def test_data_of_other_classes_than_the_checkpoint(data, capsys):
    eighty_classes([f'class {i}' for i in range(80)])
    with pytest.raises(SystemExit):
        run_tool('test.py', CONFIG, 'pretrained.pth', '--data', data, options=OPTIONS)
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'does not know: Hund, cat, 猫' in error


def test_order_of_classes(data, capsys):
    """Without --data, a file whose categories come in another order would mix labels up."""
    data = data.rename('data')  # mmengine drops blanks from --cfg-options
    options = {
        **OPTIONS,
        'train_dataloader.dataset.data_root': f'"{data}/"',
        'train_dataloader.dataset.ann_file': 'train.json',
        'train_dataloader.dataset.data_prefix.img': 'train/',
        'train_dataloader.dataset.metainfo.classes': "('猫','cat','Hund')",
        'model.bbox_head.num_classes': '3',
    }
    with pytest.raises(SystemExit):
        run_tool('train.py', CONFIG, options=options)
    assert 'would be mixed up' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--train-ann', '--img-dir'])
def test_options_that_need_data(capsys, option):
    with pytest.raises(SystemExit):
        run_tool('train.py', CONFIG, option, 'x')
    assert f'{option} needs --data' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_eight_bits_of_another_format(data, kind):
    """Calibrated and evaluated on the test split, with the classes of the checkpoint."""
    pytest.importorskip('onnxruntime')
    root = data.parent / kind
    if kind == 'voc':
        write_images(root / 'test')
        for name in BOXES:
            path = root / 'test' / name.replace('.jpg', '.xml')
            path.write_text(voc(name), 'utf-8')
    else:
        (root / 'classes.txt').parent.mkdir()
        (root / 'classes.txt').write_text('\n'.join(CLASSES), 'utf-8')
        write_images(root / 'images' / 'test' / 'deeper')
        (root / 'labels' / 'test' / 'deeper').mkdir(parents=True)
        for name in BOXES:
            path = root / 'labels' / 'test' / 'deeper' / name.replace('.jpg', '.txt')
            path.write_text(yolo(name))
    options = {**OPTIONS, 'model.bbox_head.num_classes': '3'}
    cfg = load_config(CONFIG, {key: json.loads(value) for key, value in options.items()})
    model = stand_in_weights(MODELS.build(cfg.model))
    meta = dict(dataset_meta=dict(classes=CLASSES[::-1]))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), 'model.pth')
    options = {**OPTIONS, 'test_dataloader.dataset.pipeline.1.scale': '(96,96)'}
    args = ('--data', root, '--work-dir', 'shipped', '--rounds', 1, '--deploy-config')
    deploy_config = ROOT / 'configs' / 'deploy' / 'onnxruntime_int8.py'
    try:
        run_tool('deploy.py', CONFIG, 'model.pth', *args, deploy_config, options=options)
    except SystemExit:  # stand-in weights may lose more than 8 bits are allowed to
        pass
    report = json.loads(Path('shipped/verify.json').read_text())
    assert report['precision'] == 'int8' and set(report['ap']) == {'pytorch', 'exported'}
    assert report['verification']['num_images'] == len(BOXES)
    import onnx

    metadata = {e.key: e.value for e in onnx.load(report['file']).metadata_props}
    assert json.loads(metadata['names']) == list(CLASSES[::-1])
