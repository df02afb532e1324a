"""Training before comparing: budgets, what is changed, and going on after an interruption."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from comparison_helpers import RETINANET, TINY_RTDETR, make_data, write_checkpoint, write_config
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.config import Config

from mmdet_vanilla.benchmark.training_race import divide_iterations
from mmdet_vanilla.comparison import Budget, ComparisonError, parse_item
from mmdet_vanilla.comparison.race import prepare
from mmdet_vanilla.datasets import EndlessShuffleSampler
from mmdet_vanilla.datasets.user_data import load_user_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    'text, seconds, iterations',
    [('600it', None, 600), ('90s', 90, None), ('1.5min', 90, None), ('2h', 7200, None)],
)
def test_budgets(text, seconds, iterations):
    assert Budget.parse(text) == Budget(seconds, iterations)


@pytest.mark.parametrize('text', ['600', '0it', '1.5it', 'min', '-3min', '0s'])
def test_what_is_no_budget(text):
    with pytest.raises(ComparisonError, match='such as 600it'):
        Budget.parse(text)


@given(st.integers(1, 100_000), st.integers(1, 10_000))
@example(58, 7)  # meets the bound
@example(1001, 32)  # likewise
def test_iterations_are_divided_into_equal_epochs(iterations, natural):
    epochs, steps = divide_iterations(iterations, natural)
    # The nearest multiple of n is at most n / 2 away. Among the numbers of epochs tried are
    # half of the wanted one, and the multiple of the shortest epoch that is nearest (n epochs with
    # 2 n at most wanted): what is found is no further away than the nearer one of these.
    wanted = min(iterations, max(8, iterations / natural))
    fewest, shortest = max(1, int(wanted / 2)), math.ceil(iterations / wanted / 2)
    assert fewest <= epochs <= 2 * wanted + 1
    assert abs(epochs * steps - iterations) <= min(fewest, shortest) / 2


@pytest.mark.parametrize('iterations, natural', [(60, 51), (600, 51), (12, 3), (1, 9), (1000, 7)])
def test_round_numbers_of_iterations_are_met(iterations, natural):
    epochs, steps = divide_iterations(iterations, natural)
    assert epochs * steps == iterations


@given(st.integers(1, 20), st.integers(1, 50), st.integers(0, 5))
def test_endless_shuffles(size, num_samples, seed):
    sampler = EndlessShuffleSampler(range(size), num_samples, seed)
    drawn = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert len(indices) == len(sampler) == num_samples and indices == list(sampler)
        drawn += indices
    counts = torch.bincount(torch.tensor(drawn), minlength=size)
    assert counts.max() - counts.min() <= 1


@pytest.fixture
def data(tmp_path):
    return load_user_data(str(make_data(tmp_path / 'data', classes=('x', 'y', 'z'))))


def test_prepared_configs_have_the_data_and_no_weights(tmp_path, data):
    item = parse_item(str(write_config(tmp_path, 'retinanet', RETINANET)))
    entrant, changes = prepare(item, data, tmp_path / 'race')
    cfg = Config.fromfile(entrant.config)
    assert cfg.model.bbox_head.num_classes == 3
    assert cfg.model.backbone.init_cfg is None and cfg.model.backbone.frozen_stages == -1
    assert any('Pretrained removed' in change for change in changes)
    assert cfg.train_dataloader.dataset.ann_file == data.splits['train'].ann_file
    assert tuple(cfg.val_dataloader.dataset.metainfo.classes) == ('x', 'y', 'z')
    assert cfg.val_evaluator.ann_file == data.splits['val'].ann_file
    entrant, changes = prepare(item, data, tmp_path / 'race', keep_init=True)
    assert Config.fromfile(entrant.config).model.backbone.init_cfg.type == 'Pretrained'
    assert not changes


def test_what_cannot_be_trained(tmp_path, data):
    weights = write_checkpoint(tmp_path / 'w.pth', TINY_RTDETR)
    config = write_config(tmp_path, 'x', TINY_RTDETR)
    with pytest.raises(ComparisonError, match='leave the checkpoint out'):
        prepare(parse_item(f'{config}::{weights}'), data, tmp_path)
    (tmp_path / 'x.onnx').touch()
    with pytest.raises(ComparisonError, match='exported files cannot be trained'):
        prepare(parse_item(str(tmp_path / 'x.onnx')), data, tmp_path)


def bccd_subset(root):
    """A few images of the real data set; drawn ones where it is not there."""
    source = ROOT.parent / 'shared' / 'data' / 'bccd'
    if not source.is_dir():
        return make_data(root)
    for split, number in (('train', 24), ('val', 8), ('test', 8)):
        content = json.loads((source / f'{split}.json').read_text())
        content['images'] = content['images'][:number]
        kept = {image['id'] for image in content['images']}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        (root / split).mkdir(parents=True)
        (root / f'{split}.json').write_text(json.dumps(content))
        for image in content['images']:
            shutil.copy(source / split / image['file_name'], root / split)
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_race_gives_the_same_table(tmp_path):
    data = bccd_subset(tmp_path / 'data')
    narrow = dict(TINY_RTDETR, bbox_head=dict(TINY_RTDETR['bbox_head'], num_queries=20))
    models = dict(rtdetr=TINY_RTDETR, retinanet=RETINANET, narrow=narrow)
    configs = [write_config(tmp_path, name, model) for name, model in models.items()]
    # As tools/compare.py prints and users type it.
    command = [sys.executable, str(ROOT / 'tools' / 'compare.py'), *map(str, configs)]
    command += ['--data', str(data), '--train', '60it', '--rounds', '1', '--warmup', '0']
    command += ['--batches', '1', '--threads', '1']
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    subprocess.run([*command, '--out', str(whole)], check=True, timeout=400)
    process = subprocess.Popen([*command, '--out', str(parts)], start_new_session=True)
    deadline = time.monotonic() + 300
    # The first one is done, the second one in the middle, the third one has not begun.
    while not list(parts.glob('train/retinanet*/epoch_*.pth')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    kill_group(process)
    assert not list(parts.glob('train/narrow*/epoch_*.pth'))
    resumed = subprocess.run([*command, '--out', str(parts), '--resume'], timeout=400)
    assert resumed.returncode == 0
    tables = []
    for out in (whole, parts):
        with open(out / 'compare.csv') as file:
            table = list(csv.DictReader(file))
        keys = [key for key in table[0] if key.startswith(('AP', 'AR', 'train_', 'status', 'par'))]
        tables.append([[row[key] for key in keys] for row in table])
    assert tables[0] == tables[1] and [row[keys.index('status')] for row in tables[0]] == 3 * ['ok']
    curves = [json.loads((out / 'compare.json').read_text())['training'] for out in (whole, parts)]
    assert curves[0] == curves[1] and len(curves[0]) == 3


def kill_group(process):
    """Ends the comparison and what it has started, as a machine that is switched off."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
