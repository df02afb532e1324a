import json
import sys

import pytest
from helpers import CONFIGS

from mmdet_vanilla.benchmark import Entrant, race

sys.path.insert(0, str(CONFIGS.parent / 'tests' / 'test_tools'))
SMALL = {
    'model.neck.out_channels': 32,
    'model.neck.feedforward_channels': 32,
    'model.backbone.widen_factor': 1 / 64,
    'model.bbox_head.num_classes': 80,
    'model.bbox_head.embed_dims': 32,
    'train_dataloader.batch_size': 2,
}


@pytest.mark.slow
def test_a_race_goes_on_where_it_stopped(tmp_path):
    from test_tools import CLASSES, make_coco

    make_coco(tmp_path)
    options = dict(SMALL)
    for mode in ('train', 'val', 'test'):
        split = 'train2017' if mode == 'train' else 'val2017'
        ann_file = f'annotations/instances_{split}.json'
        loader = f'{mode}_dataloader'
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
        options[f'{loader}.dataset.data_root'] = f'{tmp_path}/data/coco/'
        options[f'{loader}.dataset.ann_file'] = ann_file
        options[f'{loader}.dataset.data_prefix'] = dict(img=f'{split}/')
        options[f'{loader}.dataset.metainfo'] = dict(classes=CLASSES)
        if mode != 'train':
            options[f'{mode}_evaluator.ann_file'] = f'{tmp_path}/data/coco/{ann_file}'
    entrants = [
        Entrant(
            f'vanillanet{name}', str(CONFIGS / 'bccd' / f'rtdetr_vanillanet{name}_bccd.py'), options
        )
        for name in ('', '_deep')
    ]
    results = race(entrants, tmp_path / 'race', seconds=1.0, num_validations=2)
    for name, result in results.items():
        assert result['iterations'] == result['epochs'] * result['steps_per_epoch']
        used = result['iterations'] * result['step_seconds']
        assert used == pytest.approx(1.0, abs=2 * result['step_seconds'])
        assert 0 <= result['metrics']['coco/bbox_mAP'] <= 1
        assert result['curve'][-1][0] <= used + 1e-6
        assert json.loads((tmp_path / 'race' / f'{name}.json').read_text()) == result
    logs = {file: file.stat().st_mtime_ns for file in (tmp_path / 'race').rglob('*.log')}
    assert race(entrants, tmp_path / 'race', seconds=1.0) == results
    assert all(file.stat().st_mtime_ns == time for file, time in logs.items())
