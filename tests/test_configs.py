"""Every config builds, trains a step, and fuses without changing its detections."""

import copy
import glob
import os

import numpy as np
import pytest
import torch
from helpers import CONFIGS, data_sample, stand_in_weights
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config

from mmdet_vanilla.evaluation import compare_detections
from mmdet_vanilla.models import switch_to_deploy
from mmdet_vanilla.utils.classes import config_classes

NAMES = sorted(os.path.basename(path) for path in glob.glob(str(CONFIGS / '*.py')))
# Models for comparison have no fused form, and one is not mmdet's.
SMALL_DATA = sorted(
    os.path.relpath(path, CONFIGS)
    for folder in ('bccd', 'neon_trees')
    for path in glob.glob(str(CONFIGS / folder / '*vanillanet*.py'))
)
# A small and a large member of the family; the others only add time.
FAST = ['rtdetr_r18vd_coco.py', 'rtdetr_vanillanet5_coco.py', 'rtdetr_vanillanet_digits.py']
FAST += ['neon_trees/rtdetr_vanillanet_trees.py', 'bccd/rtdetr_vanillanet_deim_deep_bccd.py']
MARKED = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in NAMES + SMALL_DATA
]


def load(name):
    return Config.fromfile(CONFIGS / name)


def box_head(cfg):
    return cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head


@pytest.mark.parametrize('name', NAMES + SMALL_DATA)
def test_loads_and_states_a_whole_run(name):
    cfg = load(name)
    assert cfg.default_scope == 'mmdet'
    assert 'mmdet_vanilla' in cfg.custom_imports['imports']
    for key in ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper'):
        assert cfg[key]
    assert cfg.default_hooks.check_dataset and cfg.default_hooks.check_checkpoint
    for mode in ('train', 'val', 'test'):
        assert len(config_classes(cfg, mode)) == box_head(cfg).num_classes
    assert os.path.exists(cfg.filename)


@pytest.mark.parametrize('name', MARKED)
def test_trains_a_step_and_fuses(name):
    cfg = load(name)
    before = copy.deepcopy(cfg.model)
    # SyncBN needs a GPU; batch normalisation computes the same on one process.
    if 'norm_cfg' in cfg.model.backbone and cfg.model.backbone.norm_cfg.type == 'SyncBN':
        cfg.model.backbone.norm_cfg.type = before.backbone.norm_cfg.type = 'BN'
    model = MODELS.build(cfg.model)
    if cfg.model.type == 'RTDETR':  # mmdet's own detectors write into their configs
        assert cfg.model == before
    num_classes = box_head(cfg).num_classes
    samples = [data_sample([[4.0, 6, 60, 70]], [num_classes - 1], (96, 128))]
    image = torch.rand(2, 3, 96, 128)
    batch = samples + [data_sample(img_shape=(96, 128))]
    for sample in batch:
        masks = np.ones((len(sample.gt_instances), 96, 128), np.uint8)
        sample.gt_instances.masks = BitmapMasks(masks, 96, 128)

    model.train()
    losses = model.loss(image, batch)
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.zero_grad(set_to_none=True)

    stand_in_weights(model).eval()
    if box_head(cfg).get('sampling_method') == 'discrete':
        # A position that float32 rounds to another cell moves a box.
        model, image = model.double(), image.double()
    with torch.no_grad():
        expected = model.predict(image[:1], copy.deepcopy(samples))[0].pred_instances
        switch_to_deploy(model)
        result = model.predict(image[:1], copy.deepcopy(samples))[0].pred_instances
    difference = compare_detections(expected, result)
    # The last detection may change places with the first that was left out.
    assert difference.num_unmatched <= 2 and difference.num_labels == 0
    assert difference.score <= 1e-4 and difference.box <= 0.01


def test_a_member_states_only_its_differences():
    for name in NAMES:
        if name.startswith('rtdetr_vanillanet') and name.endswith('_coco.py'):
            lines = [x for x in (CONFIGS / name).read_text().splitlines() if x.strip()]
            assert len(lines) <= 10, name


def test_rtdetr_recipe():
    cfg = load('rtdetr_vanillanet6_coco.py')
    assert cfg.train_cfg.max_epochs == 72
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4
    )
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
    assert cfg.model.backbone.arch == '6'
    assert cfg.auto_scale_lr.base_batch_size == 16


def test_bases_resolve_by_the_name_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmdet_vanilla::_base_/models/rtdetr_vanillanet.py',\n"
        "          'mmdet_vanilla::_base_/default_runtime.py']\n"
        "model = dict(backbone=dict(arch='5', widen_factor=1 / 64))\n"
    )
    cfg = Config.fromfile('mine.py')
    assert cfg.model['_scope_'] == 'mmdet_vanilla'
    model = MODELS.build(cfg.model)
    assert model.neck.in_channels == (16, 32, 64)
    (tmp_path / 'whole.py').write_text(
        "_base_ = 'mmdet_vanilla::_base_/../rtdetr_vanillanet6_coco.py'\n"
    )
    assert Config.fromfile('whole.py').model.backbone.arch == '6'


def test_every_config_is_in_the_model_index():
    import yaml

    root = CONFIGS.parent
    listed = set()
    for metafile in yaml.safe_load((root / 'model-index.yml').read_text())['Import']:
        for entry in yaml.safe_load((root / metafile).read_text())['Models']:
            assert (root / entry['Config']).exists(), entry
            listed.add(os.path.basename(entry['Config']))
    assert listed == set(NAMES)
