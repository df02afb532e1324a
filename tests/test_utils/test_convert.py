import glob
import os

import pytest
import torch
from helpers import CONFIGS, TINY_RTDETR, data_sample, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet_vanilla.models import VanillaNet, make_denoising_queries
from mmdet_vanilla.utils import WeightsError, convert_state_dict, to_official_state_dict
from mmdet_vanilla.utils.checkpoint import find_checkpoint, read_checkpoint
from mmdet_vanilla.utils.convert import convert
from mmdet_vanilla.utils.official_names import from_official, to_official
from mmdet_vanilla.utils.transformers_names import to_official_names

RTDETR = [
    f'rtdetr{v}_{n}' for v in ('', 'v2') for n in ('r18vd', 'r34vd', 'r50vd_m', 'r50vd', 'r101vd')
]
ARCHS = list(VanillaNet.arch_zoo)


def meta_state(shapes):
    """Tensors of the right shapes that take no memory."""
    return {
        name: torch.zeros(()).expand(shape) if shape else torch.tensor(0)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize('name', [*RTDETR, 'rtdetrv2_r18vd_dsp'])
def test_every_official_rtdetr_name(golden, name):
    theirs = meta_state(golden.keys(name))
    if 'v2' in name:
        # As published: infinite where an anchor is not valid, and one over the points of a level.
        theirs['decoder.anchors'] = torch.full(theirs['decoder.anchors'].shape, float('inf'))
        for key in theirs:
            if key.endswith('num_points_scale'):
                theirs[key] = torch.full((12,), 0.25)
    config, state = convert_state_dict(dict(ema=dict(module=theirs)))
    assert config == f'{name.removesuffix("_dsp")}_coco.py'
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(CONFIGS / config).model)
    model.load_state_dict(state, assign=True)  # strict
    back = to_official_state_dict(state, 2 if 'v2' in name else 1)
    assert set(back) == set(theirs)
    assert all(back[key].shape == theirs[key].shape for key in back)


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('wrapped', [True, False])
def test_every_official_vanillanet_name(golden, arch, wrapped):
    theirs = meta_state(golden.keys(f'vanillanet_{arch}'))
    kind, name, state = convert_state_dict(dict(model_ema=theirs) if wrapped else theirs)
    # The two VanillaNet-13 1.5x differ in pooling alone.
    assert (kind, name) == ('VanillaNet', arch.removesuffix('_ada_pool'))
    assert set(theirs) - set(state) == {key for key in theirs if key.startswith('cls')}
    with torch.device('meta'):
        VanillaNet(arch).load_state_dict(state, assign=True)


def test_counters_may_be_absent():
    state = VanillaNet('5', act_num=4).state_dict()
    plain = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    assert convert_state_dict(plain)[:2] == ('VanillaNet', '5')
    VanillaNet('5', act_num=4).load_state_dict(convert_state_dict(plain)[2])


def test_round_trip_is_bit_exact(golden):
    theirs = golden.state_dict('rtdetr_r18vd')
    counters = {k for k in golden.keys('rtdetr_r18vd') if k.endswith('num_batches_tracked')}
    back = to_official_state_dict(convert_state_dict(theirs)[1])
    assert set(back) == set(theirs) | counters
    distributed = {f'module.{key}': tensor for key, tensor in theirs.items()}
    assert convert_state_dict(distributed)[0] == 'rtdetr_r18vd_coco.py'
    assert all(torch.equal(back[key], tensor) for key, tensor in theirs.items())


def test_names_are_inverse():
    for path in glob.glob(str(CONFIGS / 'rtdetr_r*18vd_coco.py')):
        with torch.device('meta'):
            model = MODELS.build(Config.fromfile(path).model)
        for name in model.state_dict():
            for version in (1, 2):
                assert from_official(to_official(name, version)) in (name, None)
    assert to_official('backbone.stages.0.conv.weight') == 'backbone.stages.0.conv.weight'
    assert to_official('roi_head.x') is None
    with pytest.raises(WeightsError, match='roi_head.x is not a parameter'):
        to_official_state_dict({'roi_head.x': torch.zeros(1)})


def small_vanilla_config(tmp_path, num_classes=4):
    path = tmp_path / 'small.py'
    cfg = dict(TINY_RTDETR, bbox_head=dict(TINY_RTDETR['bbox_head'], num_classes=num_classes))
    path.write_text(f'model = {cfg!r}\n')
    return path, stand_in_weights(MODELS.build(cfg))


def test_a_detector_of_our_own_there_and_back(tmp_path):
    path, model = small_vanilla_config(tmp_path)
    official = to_official_state_dict(model.state_dict(), 2)
    assert 'backbone.stages.0.conv1.0.weight' in official
    name, state = convert_state_dict(official, path)
    assert name == 'small.py'
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key])
    assert convert_state_dict(dict(state_dict=state), str(path))[1].keys() == state.keys()


def test_points_per_level_with_the_same_shapes(golden):
    theirs = meta_state(golden.keys('rtdetrv2_r18vd'))
    scale = torch.cat([torch.full((n,), 1 / n) for n in (3, 6, 3)])
    for key in theirs:
        if key.endswith('num_points_scale'):
            theirs[key] = scale
    with pytest.raises(
        WeightsError, match=r'\(3, 3, 3, 6, 6, .* give a config with their num_points'
    ):
        convert_state_dict(theirs)


def test_a_config_decides_what_the_weights_of_a_vanillanet_leave_open(golden):
    theirs = meta_state(golden.keys('vanillanet_13_x1_5_ada_pool'))
    config = 'rtdetr_vanillanet13_x1_5_ada_pool_coco.py'
    assert convert_state_dict(theirs, config)[1] == '13_x1_5_ada_pool'
    with pytest.raises(WeightsError, match='the weights are of a VanillaNet, the backbone of'):
        convert_state_dict(theirs, 'rtdetr_r18vd_coco.py')


def test_copies_of_the_heads_in_transformers():
    name = 'class_embed.0.weight'
    tensor = torch.rand(2, 2)
    official = 'decoder.dec_score_head.0.weight'
    for state in ({name: tensor}, {name: tensor, f'model.decoder.{name}': tensor.clone()}):
        renamed = to_official_names(state)
        assert list(renamed) == [official] and torch.equal(renamed[official], tensor)
    renamed = to_official_names({name: tensor, f'model.decoder.{name}': tensor + 1})
    assert set(renamed) == {official, name}


def test_other_number_of_classes(tmp_path):
    _, model = small_vanilla_config(tmp_path, 4)
    path, _ = small_vanilla_config(tmp_path, 7)
    state = model.state_dict()
    with pytest.raises(WeightsError, match='trained for 4 classes and small.py has 7'):
        convert_state_dict(state, path)
    result = convert(state, path, other_classes=True)
    assert sorted(result.left_new) == sorted(
        ['bbox_head.denoising_class_embed.weight']
        + [
            f'bbox_head.{layer}.{kind}'
            for layer in ('enc_score_head', 'dec_score_head.0', 'dec_score_head.1')
            for kind in ('weight', 'bias')
        ]
    )
    assert set(result.state_dict) == set(state) - set(result.left_new)


def test_names_and_shapes_that_do_not_fit_are_listed(golden):
    state = meta_state(golden.keys('rtdetr_r18vd'))
    state.pop('decoder.query_pos_head.layers.0.bias')
    state['decoder.extra.weight'] = torch.zeros(3)
    state['encoder.lateral_convs.0.conv.weight'] = torch.zeros(2, 2, 1, 1)
    with pytest.raises(WeightsError) as error:
        convert_state_dict(state)
    lines = str(error.value).splitlines()
    assert lines[0] == 'the weights do not fit rtdetr_r18vd_coco.py:'
    assert '  missing     bbox_head.query_pos_head.layers.0.bias' in lines
    assert '  unexpected  bbox_head.extra.weight' in lines
    assert any('lateral_convs.0.conv.weight: (2, 2, 1, 1), expected (256' in x for x in lines)


@pytest.mark.parametrize(
    'foreign, message',
    [
        ({'conv1.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}, 'weights not recognised'),
        ({'bbox_head.a': torch.tensor([float('nan')])}, 'hold NaN or infinity, e.g. bbox_head.a'),
        (None, 'expected a dict, got a NoneType'),
        ({1: torch.zeros(1)}, 'no state dict found'),
        (dict(epoch=3), 'no state dict found'),
        ({'stem1.0.weight': torch.zeros(2, 3, 4, 4)}, 'do not fit VanillaNet-5, the most similar'),
    ],
)
def test_other_things(foreign, message):
    with pytest.raises(WeightsError, match=message):
        convert_state_dict(foreign)


def test_unknown_config(golden):
    with pytest.raises(WeightsError, match='no config at nothing.py'):
        convert_state_dict(meta_state(golden.keys('rtdetr_r18vd')), 'nothing.py')


def transformers_model(v2, backbone, **kwargs):
    transformers = pytest.importorskip('transformers')
    prefix = 'RTDetrV2' if v2 else 'RTDetr'
    small = backbone in ('r18', 'r34')
    if backbone == 'r101':
        kwargs |= dict(encoder_hidden_dim=384, encoder_ffn_dim=2048, decoder_in_channels=[384] * 3)
    config = getattr(transformers, f'{prefix}Config')(
        backbone_config=transformers.RTDetrResNetConfig(
            depths=dict(r18=[2, 2, 2, 2], r101=[3, 4, 23, 3]).get(backbone, [3, 4, 6, 3]),
            hidden_sizes=[64, 128, 256, 512] if small else [256, 512, 1024, 2048],
            layer_type='basic' if small else 'bottleneck',
            out_features=['stage2', 'stage3', 'stage4'],
        ),
        encoder_in_channels=[128, 256, 512] if small else [512, 1024, 2048],
        hidden_expansion=0.5 if small else 1.0,
        decoder_layers=dict(r18=3, r34=4).get(backbone, 6),
        num_labels=80,
        **kwargs,
    )
    return getattr(transformers, f'{prefix}ForObjectDetection')(config)


@pytest.mark.parametrize(
    'v2, backbone',
    [
        (False, 'r18'),
        (True, 'r18'),
        pytest.param(False, 'r34', marks=pytest.mark.slow),
        pytest.param(False, 'r50', marks=pytest.mark.slow),
        pytest.param(True, 'r50', marks=pytest.mark.slow),
        pytest.param(False, 'r101', marks=pytest.mark.slow),
    ],
)
def test_transformers_computes_the_same(v2, backbone):
    torch.manual_seed(0)
    theirs = transformers_model(v2, backbone)
    with torch.no_grad():
        for param in theirs.parameters():
            param.add_(0.02 * torch.randn_like(param))  # nothing is zero or one by initialisation
        for name, buffer in theirs.named_buffers():
            if name.endswith('running_var'):
                buffer.uniform_(0.5, 1.5)
    theirs = theirs.double().eval()
    config, state = convert_state_dict(theirs.state_dict())
    assert config == f'rtdetr{"v2" if v2 else ""}_{backbone}vd_coco.py'
    # Their layout, and so their rounding: with random weights tokens are tied to the last bit or
    # nearly, and top-k takes others of them.
    cfg = dict(Config.fromfile(CONFIGS / config).model, channels_last=False)
    model = MODELS.build(cfg).double().eval()
    model.load_state_dict(state)

    image = torch.rand(1, 3, 320, 320, dtype=torch.float64)
    with torch.no_grad():
        # Anchors and position embedding are built in float32 there, and compared to 1e-5.
        out = theirs(image)
        logits, boxes = model.bbox_head(model.extract_feat(image))
    torch.testing.assert_close(logits[-1], out.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(boxes[-1], out.pred_boxes, atol=1e-4, rtol=1e-4)


def test_a_folder_of_transformers(tmp_path):
    theirs = transformers_model(False, 'r18')
    theirs.save_pretrained(tmp_path / 'folder')
    with pytest.raises(FileNotFoundError, match='no model.safetensors in the folder'):
        find_checkpoint(tmp_path)
    saved = read_checkpoint(find_checkpoint(tmp_path / 'folder'))
    state = convert_state_dict(saved, 'rtdetr_r18vd_coco.py')[1]
    expected = convert_state_dict(theirs.state_dict())[1]
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_projections_that_are_not_complete_stay():
    state = {'model.encoder.encoder.0.layers.0.self_attn.q_proj.weight': torch.zeros(2, 2)}
    assert list(to_official_names(state)) == ['encoder.encoder.0.layers.0.self_attn.q_proj.weight']


def test_the_family_is_complete():
    names = {os.path.basename(path) for path in glob.glob(str(CONFIGS / '*.py'))}
    assert {f'{name}_coco.py' for name in RTDETR} <= names
    for version in ('', 'v2'):
        assert {f'rtdetr{version}_vanillanet{arch}_coco.py' for arch in ARCHS} <= names


def objects(counts, num_classes=80):
    labels = [torch.randint(num_classes, (n,)) for n in counts]
    low, span = torch.tensor([0.3, 0.3, 0.05, 0.05]), torch.tensor([0.4, 0.4, 0.2, 0.2])
    return labels, [torch.rand(n, 4) * span + low for n in counts]


@pytest.mark.parametrize('counts', [[3, 5], [7, 0, 1], [60]])
def test_transformers_makes_the_same_denoising_groups(counts):
    rt_detr = pytest.importorskip('transformers.models.rt_detr.modeling_rt_detr')
    labels, boxes = objects(counts)
    embed = torch.nn.Embedding(81, 8, padding_idx=80)
    targets = [dict(class_labels=x, boxes=y) for x, y in zip(labels, boxes)]
    _, _, mask, meta = rt_detr.get_contrastive_denoising_training_group(
        targets, 80, 20, embed, num_denoising_queries=100
    )
    dn = make_denoising_queries(labels, boxes, 80, 20, num_denoising=100)
    assert dn.num_groups == meta['dn_num_group']
    assert [dn.labels.shape[1], 20] == list(meta['dn_num_split'])
    blocked = mask if mask.dtype == torch.bool else mask < 0
    assert torch.equal(dn.attn_mask, blocked)
    total = dn.labels.shape[1]
    theirs = [
        image * total + query
        for image, index in enumerate(meta['dn_positive_idx'])
        for query in index.tolist()
    ]
    assert sorted(dn.positive.tolist()) == sorted(theirs)


@pytest.mark.parametrize(
    'backbone, num_layers', [('r18', 3), pytest.param('r50', 6, marks=pytest.mark.slow)]
)
def test_transformers_computes_the_same_losses(tmp_path, backbone, num_layers):
    path = tmp_path / 'without_denoising.py'
    path.write_text(
        f"_base_ = '{CONFIGS}/rtdetr_{backbone}vd_coco.py'\n"
        'model = dict(bbox_head=dict(num_denoising=0))\n'
    )
    theirs = transformers_model(
        False, backbone, num_denoising=0, freeze_backbone_batch_norms=backbone == 'r50'
    ).double()
    with torch.no_grad():
        for param in theirs.parameters():
            param.add_(0.02 * torch.randn_like(param))
    theirs.train()
    _, state = convert_state_dict(theirs.state_dict(), path)
    model = MODELS.build(Config.fromfile(path).model).double().train()
    model.load_state_dict(state)

    labels, boxes = objects([3, 5])
    boxes = [box.double() for box in boxes]
    image = torch.rand(2, 3, 128, 128, dtype=torch.float64)
    targets = [dict(class_labels=x, boxes=y) for x, y in zip(labels, boxes)]
    expected = theirs(image, labels=targets)
    samples = []
    for x, y in zip(labels, boxes):
        sample = data_sample(img_shape=(128, 128))
        corners = torch.cat([y[:, :2] - y[:, 2:] / 2, y[:, :2] + y[:, 2:] / 2], 1) * 128
        sample.gt_instances = InstanceData(bboxes=corners, labels=x)
        samples.append(sample)
    losses = model.loss(image, samples)
    terms = dict(loss_vfl='loss_cls', loss_bbox='loss_bbox', loss_giou='loss_iou')
    layers = {f'_aux_{i}': f'd{i}.' for i in range(num_layers - 1)}
    layers |= {'': '', f'_aux_{num_layers - 1}': 'enc_'}
    for suffix, prefix in layers.items():
        for term, name in terms.items():
            theirs_value = expected.loss_dict[term + suffix].item()
            assert losses[prefix + name].item() == pytest.approx(theirs_value, rel=1e-4), suffix
