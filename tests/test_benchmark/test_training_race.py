import json
import sys

import pytest
from helpers import CONFIGS

from mmdet_vanilla.benchmark import Entrant, race, training_race
from mmdet_vanilla.utils.preflight import load_config

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
@pytest.mark.timeout(600)
def test_a_race_goes_on_where_it_stopped(tmp_path, monkeypatch):
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
    entrants = []
    for name in ('vanillanet', 'vanillanet_deep', 'broken'):
        source = CONFIGS / 'bccd' / f'rtdetr_{name.replace("broken", "vanillanet")}_bccd.py'
        cfg = load_config(str(source), options)
        if name == 'broken':
            cfg.model.neck.type = 'NeckOfAnotherPackage'
        cfg.dump(tmp_path / f'{name}.py')
        entrants.append(Entrant(name, str(tmp_path / f'{name}.py')))
    # On a busy machine no two measurements need agree.
    monkeypatch.setattr(training_race, 'AGREEMENT', 100.0)
    settings = dict(seconds=1.0, num_validations=2)
    results = race(entrants, tmp_path / 'race', **settings)
    assert 'ended with status' in results.pop('broken')['error']
    for name, result in results.items():
        assert result['iterations'] == result['epochs'] * result['steps_per_epoch']
        used = result['iterations'] * result['step_seconds']
        assert used == pytest.approx(1.0, abs=2 * result['step_seconds'])
        assert result['curve'][-1][0] <= used + 1e-6
        assert all(0 <= ap <= ap50 <= 1 for _, ap, ap50 in result['curve'])
        assert json.loads((tmp_path / 'race' / f'{name}.json').read_text()) == result
    logs = {file: file.stat().st_mtime_ns for file in (tmp_path / 'race').rglob('*.log')}
    logs = {file: time for file, time in logs.items() if 'broken' not in str(file)}
    again = race(entrants, tmp_path / 'race', **settings)
    assert {name: again[name] for name in results} == results
    assert all(file.stat().st_mtime_ns == time for file, time in logs.items())
