"""What a training begins with: the authors' files in all configs, and what happens without."""

import copy
import functools
import hashlib
import math
import re
import zlib
from pathlib import Path

import pytest
import torch
from helpers import CONFIGS, TINY_RTDETR, stand_in_weights, tiny_runner
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from mmdet_vanilla.engine.hooks import FrozenLayersError
from mmdet_vanilla.models import VanillaNet
from mmdet_vanilla.utils import WeightsError
from mmdet_vanilla.utils.pretrained import (
    InitialWeightsError,
    iter_pretrained,
    prepare_initial_weights,
    start_from_scratch,
)

PAPER = 'https://github.com/lyuwenyu/storage/releases/download/v0.1/'
VANILLA = 'https://github.com/huawei-noah/VanillaNet/releases/download/ckpt/'
RESNETS = {
    18: f'{PAPER}ResNet18_vd_pretrained_from_paddle.pth',
    34: f'{PAPER}ResNet34_vd_pretrained_from_paddle.pth',
    50: f'{PAPER}ResNet50_vd_ssld_v2_pretrained_from_paddle.pth',
    101: f'{PAPER}ResNet101_vd_ssld_pretrained_from_paddle.pth',
}
NAMES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if path.relative_to(CONFIGS).parts[0] not in ('_base_', 'deploy')
)


def expected_address(name):
    """By the name of the config; None for those that have to begin with random weights."""
    if '/' in name or 'digits' in name:
        return None
    resnet = re.search(r'_r(\d+)vd_', name)
    if resnet:
        return RESNETS[int(resnet[1])]
    if name in ('retinanet_vanillanet13_coco.py', 'mask-rcnn_vanillanet13_coco.py'):
        return f'{VANILLA}vanillanet_13_act_num_4_kd_pretrain.pth'
    arch = re.search(r'_vanillanet(\d+(?:_x1_5(?:_ada_pool)?)?)_', name)
    return arch and f'{VANILLA}vanillanet_{arch[1]}.pth'


NAMED = [name for name in NAMES if expected_address(name)]


@functools.cache
def parse(name):
    return Config.fromfile(CONFIGS / name)


def load(name, **options):
    cfg = copy.deepcopy(parse(name))
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


def on_meta(cfg):
    with torch.device('meta'):
        return MODELS.build(cfg)


def backbone_alone(cfg):
    """What has the names of a detector's parameters, without the rest of it."""
    return nn.ModuleDict(dict(backbone=on_meta(cfg.model.backbone)))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's, and no network."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    for scheme in ('http', 'https'):
        monkeypatch.setenv(f'{scheme}_proxy', 'http://127.0.0.1:1')
    folder = tmp_path / 'torch' / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_there_are_all_kinds_of_configs():
    assert len(NAMES) > 50 and len(NAMED) > 40
    assert {expected_address(name) for name in NAMED} >= set(RESNETS.values())


def test_the_address_follows_from_the_variant():
    arch = load('rtdetr_vanillanet6_coco.py', model__backbone__arch='13_x1_5').model.backbone
    assert on_meta(arch).authors_url == f'{VANILLA}vanillanet_13_x1_5.pth'
    depth = load('rtdetr_r50vd_coco.py', model__backbone__depth=34).model.backbone
    assert on_meta(depth).authors_url == RESNETS[34]


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='VanillaNet', arch='6', widen_factor=1 / 2),
        dict(type='VanillaNet', arch='6', act_num=4),
        dict(type='VanillaNet', arch='13', act_num=2),
        dict(type='VanillaNet', arch='6', in_channels=1),
        dict(type='VanillaNet', arch=dict(dims=[512, 1024, 2048, 4096], strides=[2, 2, 2])),
        dict(type='ResNetVd', depth=152),
        dict(type='ResNetVd', depth=18, base_channels=32),
    ],
    ids=str,
)
def test_variants_without_a_file_say_so(backbone):
    backbone = on_meta(dict(backbone, init_cfg=dict(type='Pretrained', checkpoint='authors')))
    assert backbone.authors_url is None
    with pytest.raises(InitialWeightsError, match='publish no weights for .*from-scratch'):
        backbone.init_weights()


def frozen(model):
    """Names of frozen parameters, and of normalisations that keep their statistics."""
    model.train()
    names = [name for name, param in model.backbone.named_parameters() if not param.requires_grad]
    norms = [n for n, m in model.backbone.named_modules() if isinstance(m, _BatchNorm)]
    return names, [n for n in norms if not model.backbone.get_submodule(n).training], norms


def factors(cfg, model):
    """Learning rates of the backbone's parameters, as factors of the base learning rate."""
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    keys = wrapper.paramwise_cfg.get('custom_keys', {})
    for key in [key for key in keys if 'backbone' not in key]:  # of the rest of the detector
        del keys[key]
    wrapper = build_optim_wrapper(model, wrapper)
    params = {id(param) for param in model.backbone.parameters()}
    return {
        round(group['lr'] / cfg.optim_wrapper.optimizer.lr, 6)
        for group in wrapper.optimizer.param_groups
        if any(id(param) in params for param in group['params'])
    }


def expected_factor(name):
    if name.startswith('deim') and ('r18vd' in name or 'r34vd' in name):
        return 0.5
    if name.startswith('rtdetrv2'):
        for variant, factor in (('r18vd', 1.0), ('r34vd', 0.5)):
            if variant in name:
                return factor
    return 0.01 if 'r101vd' in name else 0.1


@pytest.mark.parametrize('name', NAMED)
def test_file_freezing_and_learning_rates_with_weights_and_from_scratch(name):
    cfg = load(name)
    assert [source for _, source in iter_pretrained(cfg.model)] == ['authors']
    model = backbone_alone(cfg)
    assert model.backbone.authors_url == expected_address(name)
    names, still, norms = frozen(model)
    if re.match('rtdetr(v2)?_r(50|101)', name):
        assert any(n.startswith('stem.0.') for n in names) and still == norms
        assert all(f'{norm}.weight' in names for norm in norms)
        assert 'layer1.0.conv1.weight' not in names
    else:
        assert not names and not still
    if 'layer_decay_rate' in cfg.optim_wrapper.paramwise_cfg:
        assert min(factors(cfg, model)) < 0.03 and max(factors(cfg, model)) < 1
    else:
        assert factors(cfg, model) == {expected_factor(name)}

    changes = start_from_scratch(cfg)
    model = backbone_alone(cfg)
    names, still, norms = frozen(model)
    assert norms and not names and not still
    assert factors(cfg, model) == {1.0}
    assert not list(iter_pretrained(cfg.model)) and changes
    # With weights this hook stays off; without any it runs.
    hook = cfg.default_hooks.get('deep_training')
    if 'vanillanet' in name:
        assert hook == dict(type='DeepTrainingHook', end=1 / 3, by_epoch=False)
    else:
        assert hook is None


@pytest.mark.parametrize('name', sorted(set(NAMES) - set(NAMED)))
def test_what_begins_with_random_weights_trains_all_of_them(name):
    cfg = load(name)
    assert not list(iter_pretrained(cfg.model))
    if 'transformers' in name:
        assert not cfg.model.model.freeze_backbone_batch_norms
        return
    model = backbone_alone(cfg)
    names, still, norms = frozen(model)
    assert norms and not names and not still
    assert factors(cfg, model) == {1.0}
    assert start_from_scratch(cfg) == []


def value(name):
    return zlib.crc32(name.encode()) / 2**32 + 0.5


def write(path, shapes):
    """A file of one number per tensor: in memory as large as the authors', on disk a twelfth.

    Rows overlap in their storage. A file that stands for much more than it holds is refused.
    """
    tensors = {}
    for key, shape in shapes.items():
        row = math.prod(shape[1:])
        held = max(row, math.prod(shape) // 12)
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if shape:
            strides[0] = (held - row) // max(shape[0] - 1, 1)
        tensors[key] = torch.full([held], value(key)).as_strided(shape, strides)
    torch.save(tensors, path)


def authors_shapes(golden, depth):
    """Names and shapes in the file of a ResNet: the authors' own, without a detector's prefix."""
    prefix = 'backbone.'
    keys = golden.keys(f'rtdetr_r{depth}vd')
    return {key.removeprefix(prefix): s for key, s in keys.items() if key.startswith(prefix)}


def load_into(backbone):
    """A backbone that init_cfg has filled; its memory is not written twice."""
    model = on_meta(backbone).to_empty(device='cpu')
    model.init_weights()
    return model


@pytest.mark.parametrize('plain', [True, False])
@pytest.mark.parametrize(
    'name, depth',
    [
        ('rtdetr_r18vd', 18),
        ('deim_rtdetrv2_r34vd', 34),
        ('rtdetrv2_r50vd_m', 50),
        ('rtdetr_r101vd', 101),
    ],
)
def test_weights_of_resnets_arrive(golden, cache, monkeypatch, name, depth, plain):
    shapes = authors_shapes(golden, depth)
    file = cache / Path(RESNETS[depth]).name
    write(file, shapes)
    if not plain:  # as fetch_checkpoint names what it downloads
        elsewhere = file.rename(cache / 'downloaded')
        monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, to: elsewhere.rename(to))
    model = load_into(load(f'{name}_coco.py').model.backbone)
    state = model.state_dict()
    counters = {key for key in state if key.endswith('num_batches_tracked')}
    given = {key for key in shapes if not key.endswith('num_batches_tracked')}
    found = {key: t.flatten()[0] for key, t in state.items() if key not in counters}
    assert all((state[key] == first).all() for key, first in found.items())
    assert sorted(first.item() for first in found.values()) == sorted(
        torch.tensor(value(key)).item() for key in given
    )
    blocks = 'res_layers.0.blocks.0'
    for ours, theirs in {
        'stem.0.weight': 'conv1.conv1_1.conv.weight',
        'stem.7.running_var': 'conv1.conv1_3.norm.running_var',
        'layer1.0.conv1.weight': f'{blocks}.branch2a.conv.weight',
        'layer1.0.bn2.running_mean': f'{blocks}.branch2b.norm.running_mean',
        'layer1.0.downsample.1.weight': f'{blocks}.short.conv.weight',
        'layer4.1.conv2.weight': 'res_layers.3.blocks.1.branch2b.conv.weight',
    }.items():
        assert found[ours].item() == pytest.approx(value(theirs)), ours


LARGE = ('13_x1_5', '13_x1_5_ada_pool')  # up to a gigabyte of weights


@pytest.mark.parametrize(
    'arch',
    [
        pytest.param(arch, marks=pytest.mark.slow if arch in LARGE else ())
        for arch in VanillaNet.arch_zoo
    ],
)
def test_weights_of_vanillanets_arrive(golden, cache, arch):
    shapes = golden.keys(f'vanillanet_{arch}')
    assert any(key.startswith('cls') for key in shapes)
    write(cache / f'vanillanet_{arch}.pth', shapes)
    backbone = load(f'rtdetr_vanillanet{arch}_coco.py').model.backbone
    for key, tensor in load_into(backbone).state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert (tensor == value(key)).all(), key


@pytest.mark.parametrize('name', ['retinanet', 'mask-rcnn'])
def test_weights_of_the_detection_vanillanet_arrive(golden, cache, name):
    shapes = {
        key: [*shape[:2], 9, 9] if list(shape[2:]) == [7, 7] else shape
        for key, shape in golden.keys('vanillanet_13').items()
    }
    write(cache / 'vanillanet_13_act_num_4_kd_pretrain.pth', shapes)
    model = load_into(load(f'{name}_vanillanet13_coco.py').model.backbone)
    assert (model.stages[10].act.weight == value('stages.10.act.weight')).all()
    assert model.act_learn == 1.0


def test_a_file_of_another_variant_is_refused_by_name(golden, cache):
    write(cache / Path(RESNETS[50]).name, authors_shapes(golden, 34))
    cfg = load('rtdetr_r50vd_coco.py')
    with pytest.raises(WeightsError, match='weights of ResNet-34, and the backbone is ResNet-50'):
        prepare_initial_weights(cfg)
    write(cache / 'vanillanet_5.pth', golden.keys('vanillanet_6'))
    cfg = load('rtdetr_vanillanet5_coco.py')
    with pytest.raises(WeightsError, match='weights of VanillaNet-6, and the backbone is Vani'):
        prepare_initial_weights(cfg)
    write(cache / 'vanillanet_13.pth', {'features.0.weight': [3]})
    with pytest.raises(WeightsError, match='weights of another network'):
        prepare_initial_weights(load('rtdetr_vanillanet13_coco.py'))


def test_a_detector_of_the_authors_gives_its_backbone(golden, cache):
    write(cache / 'detector.pth', golden.keys('rtdetr_r18vd'))
    init_cfg = dict(type='Pretrained', checkpoint=str(cache / 'detector.pth'))
    model = load_into(dict(type='ResNetVd', depth=18, init_cfg=init_cfg))
    assert model.stem[0].weight.unique().item() == pytest.approx(
        value('backbone.conv1.conv1_1.conv.weight')
    )


def test_a_detector_of_transformers_gives_its_backbone(cache):
    pytest.importorskip('transformers')
    from mmdet_vanilla.benchmark.peers import build_peer

    theirs = build_peer('rtdetr_r18vd_coco.py').model.state_dict()
    torch.save(theirs, cache / 'detector.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(cache / 'detector.pth'))
    model = load_into(dict(type='ResNetVd', depth=18, init_cfg=init_cfg))
    [stem] = [name for name in theirs if name.endswith('embedder.0.convolution.weight')]
    assert torch.equal(model.stem[0].weight, theirs[stem])


def test_no_network_is_one_sentence(cache):
    cfg = load('rtdetr_r18vd_coco.py')
    with pytest.raises(InitialWeightsError) as error:
        prepare_initial_weights(cfg)
    sentence = str(error.value)
    assert RESNETS[18] in sentence and '--from-scratch' in sentence
    assert f'put it to {cache / Path(RESNETS[18]).name}' in sentence
    assert re.findall(r'\. |\n|\? ', sentence) == [] and sentence.endswith('.')


def test_a_broken_copy_is_not_taken_for_no_network(golden, cache):
    file = cache / Path(RESNETS[18]).name
    write(file, authors_shapes(golden, 18))
    file.write_bytes(file.read_bytes()[:5000])
    # Where a person puts it, and where it was downloaded to.
    digest = hashlib.sha256(RESNETS[18].encode()).hexdigest()[:12]
    for name in (file.name, f'{digest}-{file.name}'):
        file = file.rename(cache / name)
        with pytest.raises(ValueError, match='truncated|damaged') as error:
            prepare_initial_weights(load('rtdetr_r18vd_coco.py'))
        assert 'from-scratch' not in str(error.value)


def test_a_model_that_a_checkpoint_fills_needs_no_file():
    cfg = load('rtdetr_r50vd_coco.py')
    before = cfg.model.to_dict()
    assert prepare_initial_weights(cfg, resumed=True) == []
    cfg.load_from = 'detector.pth'
    assert prepare_initial_weights(cfg) == []
    assert cfg.model.to_dict() == before


def test_one_process_of_a_machine_downloads(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert prepare_initial_weights(load('rtdetr_r50vd_coco.py')) == []


def test_from_scratch_and_load_from_contradict_each_other():
    cfg = load('rtdetr_r50vd_coco.py', load_from='detector.pth')
    with pytest.raises(InitialWeightsError, match='from-scratch and load_from=detector.pth'):
        prepare_initial_weights(cfg, from_scratch=True)


def test_a_config_without_the_file_is_trained_as_from_scratch():
    scratch = load('rtdetr_r50vd_coco.py')
    start_from_scratch(scratch)
    for resumed in (False, True):
        cfg = load('rtdetr_r50vd_coco.py', model__backbone__init_cfg=None)
        changes = prepare_initial_weights(cfg, resumed)
        assert 'model.backbone.frozen_stages 0 -> -1' in changes
        assert 'learning rate of backbone x0.1 -> x1' in changes
        assert cfg.model == scratch.model and cfg.optim_wrapper == scratch.optim_wrapper


@pytest.mark.parametrize('arguments', [dict(norm_eval=True), dict()])
def test_a_class_that_freezes_by_default_is_unfrozen(arguments):
    """mmdet's ResNet does; a config that leaves it out must not stay frozen."""
    backbone = dict(type='ResNet', depth=18, **arguments)
    cfg = Config(dict(model=dict(type='RetinaNet', backbone=backbone)))
    assert start_from_scratch(cfg) == ['model.backbone.norm_eval True -> False']
    assert cfg.model.backbone.norm_eval is False


HOOK = dict(type='InitialWeightsHook')
ONCE = dict(train_cfg=dict(by_epoch=True, max_epochs=1))


def resnet_runner(work_dir, backbone=(), **settings):
    """A runner whose detector has mmdet's own ResNet."""
    resnet = dict(type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3), norm_eval=False)
    neck = dict(TINY_RTDETR['neck'], in_channels=[16, 32, 64])
    model = dict(backbone={**resnet, **dict(backbone)}, neck=neck)
    return tiny_runner(work_dir, model, [HOOK], **{**ONCE, **settings})


@pytest.mark.parametrize(
    'arguments, layers',
    [
        (dict(frozen_stages=1), 'backbone.conv1, backbone.bn1, backbone.layer1.0.conv1 and 7 more'),
        (dict(frozen_stages=0), 'backbone.conv1, backbone.bn1 would stay random'),
        (dict(norm_eval=True), 'backbone.bn1, backbone.layer1.0.bn1'),
    ],
    ids=str,
)
def test_random_frozen_layers_are_refused(tmp_path, arguments, layers):
    runner = resnet_runner(tmp_path, arguments)
    with pytest.raises(FrozenLayersError, match=layers):
        runner.train()
    assert runner.iter == 0


def test_frozen_layers_with_weights_train(tmp_path):
    model = stand_in_weights(resnet_runner(tmp_path / 'weights').model)
    detector, backbone = str(tmp_path / 'detector.pth'), str(tmp_path / 'backbone.pth')
    torch.save(model.state_dict(), detector)
    torch.save(model.backbone.state_dict(), backbone)

    def train(folder, checkpoint=None, **settings):
        init_cfg = checkpoint and dict(type='Pretrained', checkpoint=checkpoint)
        arguments = dict(frozen_stages=1, norm_eval=True, init_cfg=init_cfg)
        runner = resnet_runner(tmp_path / folder, arguments, **settings)
        if not init_cfg and not settings:  # as a backbone that loads weights where it is built
            runner.model.backbone.init_weights = lambda: None
            runner.model.backbone.load_state_dict(model.backbone.state_dict())
        runner.train()
        assert torch.equal(runner.model.backbone.conv1.weight, model.backbone.conv1.weight)

    train('init_cfg', backbone)
    train('itself')
    # What a whole checkpoint would overwrite is not looked for.
    train('load_from', str(tmp_path / 'nowhere.pth'), load_from=detector)
    saved = str(tmp_path / 'load_from' / 'epoch_1.pth')
    longer = dict(train_cfg=dict(by_epoch=True, max_epochs=2))
    train('resumed', str(tmp_path / 'nowhere.pth'), load_from=saved, resume=True, **longer)
    (tmp_path / 'load_from' / 'last_checkpoint').write_text(saved)
    train('load_from', str(tmp_path / 'nowhere.pth'), resume=True, **longer)


def test_a_checkpoint_without_the_frozen_layers_is_refused(tmp_path):
    state = stand_in_weights(resnet_runner(tmp_path / 'weights').model).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith('backbone.')}
    torch.save(state, tmp_path / 'part.pth')
    runner = resnet_runner(
        tmp_path / 'run', dict(frozen_stages=0), load_from=str(tmp_path / 'part.pth')
    )
    with pytest.raises(FrozenLayersError, match='backbone.conv1, backbone.bn1 would'):
        runner.train()


def test_blocks_that_never_run_are_not_called_frozen(tmp_path):
    backbone = dict(type='VanillaNet', arch='6', widen_factor=1 / 64, out_indices=(0, 1, 2))
    runner = tiny_runner(tmp_path / 'a', dict(backbone=backbone), [HOOK], **ONCE)
    assert len(runner.model.backbone.unused) == 1
    runner.train()
    backbone['frozen_stages'] = 0
    runner = tiny_runner(tmp_path / 'b', dict(backbone=backbone), [HOOK], **ONCE)
    with pytest.raises(FrozenLayersError, match='backbone.stem2.0, backbone.stem2.1, '):
        runner.train()
