"""The numbers of the published recipes, after inheritance, and what they make of a model."""

import pytest
import torch
from helpers import CONFIGS
from mmdet.registry import DATASETS, HOOKS, MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner.priority import get_priority
from torch import nn

V1 = ['r18vd', 'r34vd', 'r50vd_m', 'r50vd', 'r101vd', 'vanillanet6']
SIZES = [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]


def load(name):
    return Config.fromfile(CONFIGS / f'{name}_coco.py')


def schedule(cfg):
    return cfg.default_hooks.batch_augments.schedule


def transforms(pipeline):
    return [transform['type'] for transform in pipeline]


@pytest.mark.parametrize('name', V1)
def test_rtdetr(name):
    cfg = load(f'rtdetr_{name}')
    assert cfg.train_cfg.max_epochs == 72
    assert cfg.train_dataloader.batch_size == 4 and cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_sampler.drop_last
    wrapper = cfg.optim_wrapper
    assert wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4)
    assert wrapper.clip_grad == dict(max_norm=0.1, norm_type=2)
    assert wrapper.paramwise_cfg.norm_decay_mult == wrapper.paramwise_cfg.bias_decay_mult == 0
    slower = wrapper.paramwise_cfg.custom_keys.backbone.lr_mult
    assert slower == dict(r101vd=0.01).get(name, 0.1)
    [warm_up] = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000)
    [ema] = [hook for hook in cfg.custom_hooks if hook.type == 'EMAHook']
    assert (ema.ema_type, ema.momentum, ema.gamma) == ('ExpMomentumEMA', 1e-4, 2000)
    assert ema.update_buffers and cfg.sync_bn == 'torch'
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@pytest.mark.parametrize('name', V1)
def test_augmentation(name):
    cfg = load(f'rtdetr_{name}')
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert transforms(pipeline) == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomPhotometricDistort',
        'Expand',
        'RandomIoUCrop',
        'FilterAnnotations',
        'RandomFlip',
        'Resize',
        'FilterAnnotations',
        'PackDetInputs',
    ]
    assert pipeline[2].prob == 0.5
    assert pipeline[3] == dict(
        type='Expand', mean=[0, 0, 0], to_rgb=False, ratio_range=(1, 4), prob=0.5
    )
    assert pipeline[4].prob == 0.8
    assert pipeline[5].min_gt_bbox_wh == (1, 1) and not pipeline[5].keep_empty
    assert pipeline[6].prob == 0.5
    assert pipeline[7].scale == (640, 640) and not pipeline[7].keep_ratio
    assert not cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (640, 640)
    multi_scale = schedule(cfg).multi_scale
    assert 'end' not in multi_scale
    augment = HOOKS.build(cfg.default_hooks.batch_augments).augments['multi_scale']
    assert sorted(size[0] for size in augment.sizes) == SIZES
    assert augment.interpolation == 'nearest'


@pytest.mark.parametrize(
    'name, queries, layers, expansion, width, hidden',
    [
        ('r18vd', 300, 3, 0.5, 256, 1024),
        ('r34vd', 300, 4, 0.5, 256, 1024),
        ('r50vd_m', 300, 6, 0.5, 256, 1024),
        ('r50vd', 300, 6, 1.0, 256, 1024),
        ('r101vd', 300, 6, 1.0, 384, 2048),
        ('vanillanet6', 300, 3, 0.5, 256, 1024),
    ],
)
def test_model(name, queries, layers, expansion, width, hidden):
    model = load(f'rtdetr_{name}').model
    head, neck = model.bbox_head, model.neck
    assert head.num_queries == queries and head.num_decoder_layers == layers
    assert head.num_denoising == 100 and not head.get('xavier_init')
    assert neck.expansion == expansion and neck.out_channels == width
    assert neck.get('feedforward_channels', 1024) == hidden
    assert head.get('eval_idx', -1) == (2 if name == 'r50vd_m' else -1)
    assert head.loss_cls == dict(type='RTDETRVarifocalLoss', alpha=0.75, gamma=2.0, loss_weight=1.0)
    assert head.loss_bbox.loss_weight == 5 and head.loss_iou.loss_weight == 2
    assigner = model.train_cfg.assigner
    assert (assigner.cls_weight, assigner.l1_weight, assigner.giou_weight) == (2, 5, 2)
    preprocessor = model.data_preprocessor
    assert preprocessor.bgr_to_rgb
    if name == 'vanillanet6':
        assert preprocessor.mean == [123.675, 116.28, 103.53]
        assert preprocessor.std == [58.395, 57.12, 57.375]
    else:
        assert preprocessor.mean == [0, 0, 0] and preprocessor.std == [255, 255, 255]
        frozen = name in ('r50vd_m', 'r50vd', 'r101vd')
        assert model.backbone.norm_eval == frozen
        assert model.backbone.get('frozen_stages', -1) == (0 if frozen else -1)
    assert model.test_cfg.max_per_img == 300


@pytest.mark.parametrize(
    'name, epochs, switch, slower',
    [
        ('r18vd', 120, 117, None),
        ('r34vd', 120, 117, 0.5),
        ('r50vd_m', 84, 81, 0.1),
        ('r50vd', 72, 71, 0.1),
        ('r101vd', 72, 71, 0.01),
        ('vanillanet6', 72, 71, 0.1),
    ],
)
def test_rtdetrv2(name, epochs, switch, slower):
    cfg = load(f'rtdetrv2_{name}')
    assert cfg.train_cfg.max_epochs == epochs
    head = cfg.model.bbox_head
    assert head.num_points == [4, 4, 4] and head.xavier_init
    hook = cfg.default_hooks.pipeline_switch
    assert hook.type == 'PipelineSwitchHook' and hook.switch_epoch == switch
    assert transforms(hook.switch_pipeline)[2:] == [
        'RandomFlip',
        'Resize',
        'FilterAnnotations',
        'PackDetInputs',
    ]
    paramwise = cfg.optim_wrapper.paramwise_cfg
    assert (paramwise.norm_decay_mult, paramwise.bias_decay_mult) == (0, int(name != 'r34vd'))
    keys = paramwise.custom_keys
    if slower is None:
        assert not keys and not schedule(cfg)
    else:
        assert keys.backbone.lr_mult == slower
        assert schedule(cfg).multi_scale.end == switch


@pytest.mark.parametrize(
    'name, epochs, plain',
    [('r18vd', 36, 33), ('r34vd', 12, 10), ('r50vd_m', 36, 33), ('r50vd', 12, 10)],
)
def test_discrete_fine_tunes(name, epochs, plain):
    cfg = load(f'rtdetrv2_{name}_dsp')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.default_hooks.pipeline_switch.switch_epoch == plain
    assert schedule(cfg).get('multi_scale', {}).get('end', plain) == plain


@pytest.mark.parametrize(
    'name, epochs, half, last',
    [
        ('r18vd', 120, 64, 117),
        ('r34vd', 120, 64, 117),
        ('r50vd_m', 60, 34, 57),
        ('r50vd', 60, 34, 57),
        ('r101vd', 60, 34, 57),
        ('vanillanet6', 120, 64, 117),
    ],
)
def test_deim(name, epochs, half, last):
    cfg = load(f'deim_rtdetrv2_{name}')
    assert cfg.train_cfg.max_epochs == epochs
    head = cfg.model.bbox_head
    assert head.loss_cls == dict(type='MatchabilityAwareLoss')
    assert head.act_cfg.type == 'SiLU'
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.type == 'QuadraticWarmupLR' and warm_up.end == 2000 and not warm_up.by_epoch
    assert (cosine.begin, cosine.end, cosine.T_max) == (half, last, last - half)
    assert cosine.eta_min_ratio == 0.5
    assert set(schedule(cfg)) == {'mosaic', 'mixup'}
    for entry in schedule(cfg).values():
        assert (entry.begin, entry.end, entry.augment.prob) == (4, half, 0.5)
    begin, end = cfg.default_hooks.augmentation_begin, cfg.default_hooks.pipeline_switch
    assert (begin.switch_epoch, end.switch_epoch) == (4, last)
    assert 'RandomIoUCrop' in transforms(begin.switch_pipeline)
    assert cfg.train_dataloader.dataset.pipeline == end.switch_pipeline
    # Resumed after both, plain images are what is left.
    assert get_priority(begin.priority) < get_priority('NORMAL')
    if name.startswith('r50') or name == 'r101vd':
        assert cfg.model.backbone.frozen_stages == -1 and not cfg.model.backbone.norm_eval


DEIM_PARTS = dict(
    loss={'model.bbox_head.loss_cls': dict(_delete_=True, type='MatchabilityAwareLoss')},
    activation={'model.bbox_head.act_cfg': dict(type='SiLU', inplace=True)},
    mosaic={
        'default_hooks.batch_augments.schedule.mosaic': dict(
            augment=dict(type='BatchMosaic', prob=0.5), begin=4, end=64
        )
    },
    mixup={
        'default_hooks.batch_augments.schedule.mixup': dict(
            augment=dict(type='BatchMixUp', prob=0.5), begin=4, end=64
        )
    },
    schedule={'param_scheduler': load('deim_rtdetrv2_r34vd').param_scheduler},
)


@pytest.mark.parametrize('part', DEIM_PARTS)
def test_each_part_of_deim_alone(part):
    cfg = load('rtdetrv2_r34vd')
    cfg.merge_from_dict(DEIM_PARTS[part])
    cfg.model.bbox_head.num_decoder_layers = 1
    model = MODELS.build(cfg.model)
    head = model.bbox_head
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    schedulers = []
    for entry in cfg.param_scheduler:
        entry.pop('convert_to_iter_based', None)
        schedulers.append(PARAM_SCHEDULERS.build(entry, default_args=dict(optimizer=optimizer)))
    found = dict(
        loss=type(head.loss_cls).__name__ == 'MatchabilityAwareLoss',
        activation=any(isinstance(module, nn.SiLU) for module in head.decoder.modules()),
        schedule=[type(s).__name__ for s in schedulers]
        == ['QuadraticWarmupLR', 'CosineAnnealingLR'],
    )
    augments = HOOKS.build(cfg.default_hooks.batch_augments).augments
    found.update({name: name in augments for name in ('mosaic', 'mixup')})
    assert [name for name, is_on in found.items() if is_on] == [part]


@pytest.mark.parametrize('name', ['rtdetr_r18vd', 'rtdetrv2_r18vd'])
def test_the_built_model(name):
    """What the configs leave to defaults."""
    model = MODELS.build(load(name).model)
    head = model.bbox_head
    assert (head.label_noise_ratio, head.box_noise_scale) == (0.5, 1.0)
    attention = head.decoder.layers[0].cross_attn
    assert attention.num_heads == head.decoder.layers[0].self_attn.num_heads == 8
    assert attention.num_points == [4, 4, 4] and attention.offset_scale == 0.5
    assert len(head.input_proj) == 3
    assert head.dec_score_head[0].in_features == 256
    assert head.decoder.layers[0].linear1.out_features == 1024
    # The prior probability of a class, 0.01.
    torch.testing.assert_close(head.dec_score_head[0].bias.sigmoid(), torch.full((80,), 0.01))
    assert len(model.neck.encoder) == 1 and model.neck.use_encoder_idx == (2,)


@pytest.mark.parametrize('config', sorted((CONFIGS / 'bccd').glob('*.py')), ids=lambda p: p.stem)
def test_races_start_from_scratch_with_trained_normalisation(config):
    if 'transformers' in config.stem:
        pytest.importorskip('transformers')
    cfg = Config.fromfile(config)
    if 'transformers' in config.stem:
        assert not cfg.model.model.freeze_backbone_batch_norms
        return
    backbone = MODELS.build(cfg.model).backbone
    assert not backbone.init_cfg or 'Pretrained' not in str(backbone.init_cfg)
    backbone.train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(norm.training and norm.weight.requires_grad for norm in norms)


@pytest.mark.parametrize('name', ['r18vd', 'vanillanet6'])
def test_1x(name):
    cfg = load(f'rtdetr_{name}_1x')
    assert cfg.train_cfg.max_epochs == 12


@pytest.mark.parametrize(
    'name, norm_lr, norm_decay, bias_decay',
    [('rtdetr_r18vd', 1e-5, 0, 0), ('rtdetrv2_r18vd', 1e-4, 0, 1e-4)],
)
def test_parameter_groups(name, norm_lr, norm_decay, bias_decay):
    cfg = load(name)
    cfg.model.bbox_head.num_decoder_layers = 1
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    settings = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    named = dict(model.named_parameters())
    of = lambda key: settings[id(named[key])]  # noqa: E731
    assert of('backbone.layer1.0.bn1.weight') == pytest.approx((norm_lr, norm_decay))
    assert of('backbone.layer1.0.conv1.weight') == pytest.approx((norm_lr, 1e-4))
    head = 'bbox_head.decoder.layers.0'
    assert of(f'{head}.norm1.weight') == pytest.approx((1e-4, norm_decay))
    assert of(f'{head}.self_attn.in_proj_bias') == pytest.approx((1e-4, bias_decay))
    assert of(f'{head}.linear1.weight') == pytest.approx((1e-4, 1e-4))


@pytest.mark.parametrize('name', ['rtdetr_vanillanet6', 'deim_rtdetrv2_r18vd', 'rtdetrv2_r34vd'])
def test_pipelines_build(name):
    from mmcv.transforms import Compose

    cfg = load(name)
    Compose(cfg.train_dataloader.dataset.pipeline)
    switch = cfg.default_hooks.get('pipeline_switch')
    if switch:
        Compose(switch.switch_pipeline)
    assert DATASETS.get(cfg.train_dataloader.dataset.type)


@pytest.mark.parametrize('name, most', [('nano', 3.0), ('tiny', 10.0), ('small', 37.0)])
def test_small_models_cost(name, most):
    """Fused GFLOP of the backbone at 640, beside 34 of ResNet-18-vd."""
    model = load(f'rtdetr_vanillanet_{name}').model
    backbone = MODELS.build(model.backbone)
    backbone.switch_to_deploy()
    side, macs = 640 // 4, 0
    convs = [backbone.stem[0], *(stage.conv for stage in backbone.stages)]
    macs += convs[0].weight.numel() * side**2 + 49 * backbone.stem_channels * side**2
    for stage in backbone.stages:
        macs += stage.conv.weight.numel() * side**2
        side //= stage.pool.kernel_size if hasattr(stage.pool, 'kernel_size') else 1
        macs += stage.act.weight.numel() * side**2
    assert 0.85 * most <= 2 * macs / 1e9 <= most
