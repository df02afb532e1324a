"""Real trainings of a tiny model on images of different sizes, and what they leave behind."""

import json
import shlex
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers import CONFIGS, TINY_RTDETR
from mmengine.config import Config
from mmengine.runner import Runner

from mmdet_vanilla.engine.hooks import results_hook
from mmdet_vanilla.engine.hooks.results_hook import ResultsHook, command
from mmdet_vanilla.visualization import read_scalars, split_scalars

CLASSES = ('circle', 'square', 'bar', 'dot')
NUM_IMAGES = dict(train=6, val=5)
STEPS = NUM_IMAGES['train'] // 2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Pages of two sizes with coloured rectangles, in COCO's format."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for split, count in NUM_IMAGES.items():
        (root / split).mkdir()
        content = dict(images=[], annotations=[])
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
        for i in range(count):
            height, width = (80, 120) if i % 2 else (100, 70)
            image = np.full((height, width, 3), (200, 220, 240), np.uint8)
            for _ in range(i % 3):
                x, y, w, h = (int(n) for n in rng.integers((5, 5, 20, 20), (30, 40, 40, 40)))
                category = int(rng.integers(1, 5))
                cv2.rectangle(image, (x, y), (x + w, y + h), (category * 60, 80, 10), -1)
                content['annotations'].append(
                    dict(
                        id=len(content['annotations']) + 1,
                        image_id=i + 1,
                        category_id=category,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(root / split / f'{i + 1}.png'), image)
            content['images'].append(
                dict(id=i + 1, file_name=f'{i + 1}.png', height=height, width=width)
            )
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


def config(data, work_dir, max_epochs=2, **options):
    """A run with averaged weights, batch augmentation and a change of the pipeline."""
    load = dict(type='LoadImageFromFile')
    # Boxes at input size in validation too.
    boxes = [dict(type='LoadAnnotations', with_bbox=True)]
    boxes += [dict(type='Resize', scale=(96, 64), keep_ratio=False)]
    train = [load, *boxes, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]

    def dataloader(split, pipeline):
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            dataset=dict(
                type='CocoDataset',
                data_root=f'{data}/',
                ann_file=f'{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=CLASSES),
                pipeline=pipeline,
            ),
        )

    cfg = Config.fromfile(str(CONFIGS / '_base_' / 'default_runtime.py'))
    evaluator = dict(type='CocoMetric', ann_file=f'{data}/val.json', metric='bbox')
    preprocessor = dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        batch_augments=[
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(64, 128),
                interval=1,
                size_divisor=32,
            )
        ],
    )
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            experiment_name=str(work_dir),
            model=dict(TINY_RTDETR, data_preprocessor=preprocessor),
            train_dataloader=dataloader('train', train),
            val_dataloader=dataloader('val', [load, *boxes, dict(type='PackDetInputs')]),
            test_dataloader=dataloader('val', [load, *boxes, dict(type='PackDetInputs')]),
            val_evaluator=evaluator,
            test_evaluator=evaluator,
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            custom_hooks=[
                dict(type='EMAHook', momentum=0.1, update_buffers=True, priority=49),
                dict(
                    type='PipelineSwitchHook',
                    switch_epoch=1,
                    switch_pipeline=[load, *boxes, dict(type='PackDetInputs')],
                ),
            ],
            randomness=dict(seed=0),
            # mmengine keeps one visualizer of a name, and its folder, in a process.
            visualizer=dict(name=f'{work_dir}/{max_epochs}'),
        )
    )
    cfg.merge_from_dict({'default_hooks.logger.interval': 1, 'log_processor.window_size': 1})
    cfg.merge_from_dict({'default_hooks.results.score_thr': 0.0, **options})
    return cfg


def picture(path):
    image = cv2.imread(str(path))
    assert image is not None and image.std() > 10, f'{path} is missing or blank'
    return image


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    Runner.from_cfg(config(data, work_dir)).train()
    return work_dir


def test_every_file_is_there(trained):
    files = {str(path.relative_to(trained / 'results')) for path in trained.glob('results/**/*.*')}
    assert files == {
        'batches/epoch_1_iter_1.png',
        f'batches/epoch_2_iter_{STEPS + 1}.png',
        'command.txt',
        'config.py',
        'curves.png',
        'environment.json',
        'metrics.json',
        'predictions.png',
    }
    assert not list(trained.glob('results/*test*'))


def test_pictures(trained):
    results = trained / 'results'
    assert min(picture(results / 'curves.png').shape[:2]) > 500
    for path in results.glob('batches/*.png'):
        height, width = picture(path).shape[:2]
        assert width > 2 * 320 and height > 200
    height, width = picture(results / 'predictions.png').shape[:2]
    assert width > 4 * 320 and height > 3 * 320


def test_metrics(trained):
    metrics = json.loads((trained / 'results' / 'metrics.json').read_text())
    assert metrics['epochs'] == 2 and metrics['iterations'] == 2 * STEPS
    assert metrics['last']['epoch'] == 2 and 0 <= metrics['last']['coco/bbox_mAP'] <= 1
    assert metrics['best_by'] == 'coco/bbox_mAP'
    assert metrics['best']['coco/bbox_mAP'] >= metrics['last']['coco/bbox_mAP']
    assert metrics['last_checkpoint'] == 'epoch_2.pth'
    assert metrics['best_checkpoint'] == (
        f'best_coco_bbox_mAP_epoch_{metrics["best"]["epoch"]}.pth'
    )
    for name in ('last_checkpoint', 'best_checkpoint'):
        assert (trained / metrics[name]).exists()
    assert 0 < metrics['seconds'] < 300
    assert metrics['peak_memory_mib']['host'] > 100


def test_config_environment_and_command(trained):
    results = trained / 'results'
    cfg = Config.fromfile(str(results / 'config.py'))
    assert cfg.train_cfg.max_epochs == 2 and cfg.model.type == 'RTDETR'
    environment = json.loads((results / 'environment.json').read_text())
    assert environment['versions']['torch'] == torch.__version__
    assert environment['versions'].keys() >= {'mmdet', 'mmcv', 'mmengine', 'mmdet_vanilla'}
    assert environment['environment']['sys.platform'] == sys.platform
    assert (results / 'command.txt').read_text().strip()


def test_host_memory_is_logged_on_a_cpu(trained):
    train, _ = split_scalars(read_scalars(trained))
    if torch.cuda.is_available():
        assert all('host_memory_gib' not in entry for entry in train)
    else:
        assert all(0.05 < entry['host_memory_gib'] < 100 for entry in train)
        log = next(trained.glob('*/*.log')).read_text()
        assert 'host_memory_gib: 0.' in log or 'host_memory_gib: 1.' in log


def test_boxes_of_the_predictions_are_those_of_the_file(data, tmp_path, monkeypatch):
    sheets = []

    def record(images, samples, *args):
        sheets.append((images, samples))
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(results_hook, 'contact_sheet', record)
    Runner.from_cfg(config(data, tmp_path, 1, **{'default_hooks.results.num_images': 3})).train()
    ((images, samples),) = sheets
    assert [image.shape[:2] for image in images] == [(100, 70), (80, 120), (100, 70)]
    assert (images[0][0, 0] == (240, 220, 200)).all()  # RGB
    content = json.loads((data / 'val.json').read_text())
    for i, sample in enumerate(samples):
        boxes = [item['bbox'] for item in content['annotations'] if item['image_id'] == i + 1]
        expected = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        assert sample.gt_instances.bboxes.tolist() == expected
        assert len(sample.pred_instances) > 0


def losses(work_dir):
    train, _ = split_scalars(read_scalars(work_dir))
    return [
        {name: value for name, value in entry.items() if 'loss' in name or name == 'grad_norm'}
        for entry in train
    ]


def test_the_training_is_the_same_without_the_hook(data, trained, tmp_path):
    cfg = config(data, tmp_path)
    del cfg.default_hooks['results']
    Runner.from_cfg(cfg).train()
    assert not (tmp_path / 'results').exists()
    assert len(losses(tmp_path)) == 2 * STEPS
    assert losses(tmp_path) == losses(trained)
    weights = [
        torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
        for folder in (tmp_path, trained)
    ]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_resume(data, trained, tmp_path):
    cfg = config(data, tmp_path)
    Runner.from_cfg(cfg).train()
    before = json.loads((tmp_path / 'results' / 'metrics.json').read_text())
    # As if it had been interrupted in the second epoch.
    options = dict(resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    Runner.from_cfg(config(data, tmp_path, 3, **options)).train()
    metrics = json.loads((tmp_path / 'results' / 'metrics.json').read_text())
    assert metrics['epochs'] == 3 and metrics['iterations'] == 3 * STEPS
    assert metrics['last_checkpoint'] == 'epoch_3.pth'
    assert metrics['seconds'] > before['seconds'] / 2
    train, val = split_scalars(read_scalars(tmp_path))
    assert [entry['iter'] for entry in train] == list(range(1, 3 * STEPS + 1))
    assert [entry['step'] for entry in val] == [1, 2, 3]
    assert len(list(tmp_path.glob('*/vis_data/scalars.json'))) == 2
    # The first batch of the interrupted run is still there.
    assert picture(tmp_path / 'results' / 'batches' / 'epoch_1_iter_1.png') is not None


def test_without_validation_and_in_a_used_work_dir(data, tmp_path):
    results = tmp_path / 'results'
    (results / 'batches').mkdir(parents=True)
    own = results / 'notes.png'
    stale = [results / 'predictions.png', results / 'batches' / 'epoch_7_iter_90.png']
    for path in (own, *stale):
        path.write_text('of an earlier training')
    scalars = tmp_path / '20200101_000000' / 'vis_data'
    scalars.mkdir(parents=True)
    (scalars / 'scalars.json').write_text('{"coco/bbox_mAP": 0.9, "step": 1}')

    cfg = config(data, tmp_path, 1)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    Runner.from_cfg(cfg).train()
    assert own.exists() and not any(path.exists() for path in stale)
    metrics = json.loads((results / 'metrics.json').read_text())
    assert metrics['last'] is metrics['best'] is metrics['best_checkpoint'] is None
    assert metrics['last_checkpoint'] == 'epoch_1.pth'
    picture(results / 'curves.png')
    picture(results / 'batches' / 'epoch_1_iter_1.png')


def test_test_pictures_lie_beside_those_of_the_training(data, trained, tmp_path):
    cfg = config(data, tmp_path, load_from=str(trained / 'epoch_2.pth'))
    Runner.from_cfg(cfg).test()
    assert [path.name for path in (tmp_path / 'results').iterdir()] == ['test_predictions.png']
    picture(tmp_path / 'results' / 'test_predictions.png')


def test_training_by_iteration(data, tmp_path):
    cfg = config(data, tmp_path, 1)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2)
    cfg.custom_hooks = []
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    cfg.default_hooks.logger.log_metric_by_epoch = False
    cfg.log_processor.by_epoch = False
    Runner.from_cfg(cfg).train()
    metrics = json.loads((tmp_path / 'results' / 'metrics.json').read_text())
    assert metrics['last']['iteration'] == metrics['iterations'] == 4
    assert metrics['last_checkpoint'] == 'iter_4.pth'
    assert len(list(tmp_path.glob('results/batches/*.png'))) == 1


def test_without_a_local_backend(data, tmp_path):
    cfg = config(data, tmp_path, 1)
    cfg.visualizer.vis_backends = []
    Runner.from_cfg(cfg).train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'there will be no curves' in log and 'LocalVisBackend' in log
    assert not (tmp_path / 'results' / 'curves.png').exists()
    metrics = json.loads((tmp_path / 'results' / 'metrics.json').read_text())
    assert metrics['last_checkpoint'] == 'epoch_1.pth'


def test_a_failure_to_draw_loses_nothing_else(data, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError('too large')

    for name in ('draw_augmented_batch', 'plot_curves', 'contact_sheet', 'collect_env'):
        monkeypatch.setattr(results_hook, name, fail)
    Runner.from_cfg(config(data, tmp_path, 1)).train()
    assert (tmp_path / 'epoch_1.pth').exists()
    log = next(tmp_path.glob('*/*.log')).read_text()
    for name in ('epoch_1_iter_1.png', 'curves.png', 'predictions.png', 'environment.json'):
        assert f'{name} was not written: MemoryError: too large' in log
    assert {path.name for path in (tmp_path / 'results').glob('*.*')} == {
        'command.txt',
        'config.py',
        'metrics.json',
    }


@pytest.mark.parametrize('argv', [[], [''], ['-c'], ['-m', 'x'], ['gone.py', 'a'], ['\0']])
def test_command_without_a_script(argv):
    assert command(argv) == '# not started from a script'


def test_command_is_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my tools').mkdir()
    script = tmp_path / 'my tools' / 'train.py'
    script.touch()
    arguments = ['a.py', '--cfg-options', 'x="[1, 2]"', "it's", '$HOME']
    text = command([str(script), *arguments])
    assert shlex.split(text) == ['python', 'my tools/train.py', *arguments]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_batches=-1), 'num_batches .* integer >= 0, got -1'),
        (dict(num_images=1.5), 'num_images .* got 1.5'),
        (dict(score_thr=30), 'score_thr .* expected 0..1, got 30'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ResultsHook(**settings)
