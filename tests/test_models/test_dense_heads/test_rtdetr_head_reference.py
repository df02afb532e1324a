"""RT-DETR's head against tests/reference, in float64: every option, predictions to gradients."""

import pytest
import torch
from helpers import data_sample, stand_in_weights
from mmdet.registry import MODELS
from reference import rtdetr as reference

from mmdet_vanilla.models.layers.denoising import make_denoising_queries

SIZES = {
    'rectangle': [(5, 9), (3, 5), (2, 3)],
    # The first and last of 60 rows have anchors too near the border to be valid.
    'narrow': [(60, 2), (4, 1), (2, 1)],
    'two_levels': [(4, 7), (2, 4)],
}
CASES = {
    'rtdetr': dict(),
    'rtdetr_v2': dict(num_points=[4, 4, 4], xavier_init=True),
    'points_3_6_3': dict(num_points=[3, 6, 3]),
    'points_1_2_3': dict(num_points=[1, 2, 3]),
    'one_point': dict(num_points=1),
    'discrete': dict(sampling_method='discrete'),
    'discrete_3_6_3': dict(sampling_method='discrete', num_points=[3, 6, 3]),
    'offset_scale': dict(offset_scale=1.5),
    'silu': dict(act_cfg=dict(type='SiLU')),
    'learnt_queries': dict(learnt_init_query=True),
    'one_layer': dict(num_decoder_layers=1),
    'four_heads': dict(num_heads=4, num_points=[2, 1, 2]),
}


def build(sizes='rectangle', **options):
    cfg = dict(
        type='RTDETRHead',
        num_classes=3,
        in_channels=[6] * len(SIZES[sizes]),
        embed_dims=8,
        num_heads=2,
        feedforward_channels=12,
        num_queries=7,
        num_decoder_layers=3,
        num_denoising=4,
    )
    module = stand_in_weights(MODELS.build({**cfg, **options})).double()
    layer = module.decoder.layers[0]
    settings = dict(
        num_layers=len(module.decoder.layers),
        num_heads=layer.self_attn.num_heads,
        num_points=layer.cross_attn.num_points,
        num_queries=module.num_queries,
        offset_scale=options.get('offset_scale', 0.5),
        sampling_method=options.get('sampling_method', 'bilinear'),
        act=options.get('act_cfg', dict(type='ReLU'))['type'],
        learnt_init_query=module.learnt_init_query,
    )
    feats = [torch.randn(2, 6, *size, dtype=torch.float64) for size in SIZES[sizes]]
    return module, settings, feats


def with_gradients(module):
    return {
        name: tensor.clone().requires_grad_(tensor.is_floating_point())
        for name, tensor in module.state_dict().items()
    }


def check_gradients(module, weights, feats, theirs):
    for name, param in module.named_parameters():
        expected = weights[name].grad
        if param.grad is None or not param.requires_grad:
            assert 'sampling_offsets' in name or expected is None or not expected.any(), name
            continue
        if name == 'denoising_class_embed.weight':
            expected = expected.clone()
            expected[-1] = 0  # what stands for no object is not trained
        torch.testing.assert_close(param.grad, expected, rtol=1e-7, atol=1e-10, msg=name)
    for ours, other in zip(feats, theirs):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-7, atol=1e-10)


def pair(feats):
    return ([x.clone().requires_grad_() for x in feats] for _ in range(2))


@pytest.mark.parametrize(
    'case, sizes', [*((case, 'rectangle') for case in CASES), ('rtdetr', 'narrow')]
)
def test_every_option_equals_the_reference_in_evaluation(case, sizes):
    module, settings, feats = build(sizes, **CASES[case])
    with torch.no_grad():
        scores, boxes = module.eval()(feats)
        expected = reference.head(feats, dict(module.state_dict()), settings)
    torch.testing.assert_close(scores[0], expected[0][-1], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(boxes[0], expected[1][-1], rtol=1e-9, atol=1e-10)


def test_two_levels_equal_the_reference():
    module, settings, feats = build('two_levels', num_points=[2, 5])
    with torch.no_grad():
        scores, boxes = module.eval()(feats)
        expected = reference.head(feats, dict(module.state_dict()), settings)
    torch.testing.assert_close(scores[0], expected[0][-1], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(boxes[0], expected[1][-1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('case', CASES)
def test_predictions_and_their_gradients_equal_the_reference_in_training(case):
    """Each layer's boxes and scores, so that what must not have a gradient has none."""
    module, settings, feats = build(**CASES[case])
    weights = with_gradients(module)
    ours, theirs = pair(feats)
    outs = module.train()(ours)
    expected = reference.head(theirs, weights, settings, training=True)
    mine = [*outs.cls_scores, *outs.bbox_preds, outs.enc_cls_scores, outs.enc_bbox_preds]
    other = [*expected[0], *expected[1], *expected[2:]]
    total = [0.0, 0.0]
    for a, b in zip(mine, other):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        factor = torch.randn_like(a)
        total = [sum_ + (x * factor).sum() for sum_, x in zip(total, (a, b))]
    for value in total:
        value.backward()
    check_gradients(module, weights, ours, theirs)


def test_layers_train_through_their_own_box_and_the_one_before_alone():
    """Look forward twice: the last layer's box has a gradient for its own step and one more."""
    module, _, feats = build()
    outs = module.train()(feats)
    outs.bbox_preds[-1].sum().backward()
    steps = [head.layers[-1].weight.grad for head in module.dec_bbox_head]
    assert [bool(step.any()) for step in steps] == [False, True, True]
    # Neither reference boxes nor the contents of queries lead back to the encoder's heads.
    assert module.enc_bbox_head.layers[0].weight.grad is None
    assert module.enc_output.proj.weight.grad is None


def test_tokens_of_anchors_at_the_border_count_as_nothing():
    module, _, feats = build('narrow')
    module.eval()
    border = [x.clone() for x in feats]
    border[0][:, :, 0] = border[0][:, :, -1] = 100.0
    seen = []
    module.enc_score_head.register_forward_hook(lambda _, args, out: seen.append(out))
    with torch.no_grad():
        module(feats)
        module(border)
    torch.testing.assert_close(*seen)


SHAPE = (40, 72)
OBJECTS = [
    ([[4.0, 4, 30, 36], [20, 2, 70, 20], [33.0, 10, 60, 30]], [0, 2, 1]),
    ([[10.0, 5, 50, 39]], [1]),
]


def samples():
    found = [data_sample(boxes, labels, SHAPE) for boxes, labels in OBJECTS]
    for sample in found:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
    return found


def naive_losses(expected, dn, targets, num_classes, num_dn):
    """A loop over layers, and for denoising over images, groups and objects."""
    scores, boxes, enc_scores, enc_boxes = expected
    count = sum(len(labels) for labels in targets.labels)
    named = {}
    layers = len(scores)
    prefixes = [*(f'd{i}.' for i in range(layers - 1)), '', 'enc_']
    rows = zip(prefixes, [*scores, enc_scores], [*boxes, enc_boxes])
    for prefix, score, box in rows:
        first = 0 if prefix == 'enc_' else num_dn
        own, own_box = score[:, first:], box[:, first:]
        pairs = []
        for n, (labels, wanted) in enumerate(zip(*targets)):
            way = reference.match(own[n].detach(), own_box[n].detach(), labels, wanted)
            pairs.append([(query, g) for g, query in enumerate(way)])
        parts = {prefix: (own, own_box, pairs, count)}
        if prefix != 'enc_' and num_dn:
            largest = max(len(labels) for labels in targets.labels)
            pairs = []
            for labels in targets.labels:
                # Of every group its first half, where the object exists, is positive.
                pairs.append(
                    [
                        (group * 2 * largest + g, g)
                        for group in range(dn.num_groups)
                        for g in range(len(labels))
                    ]
                )
            divisor = count * dn.num_groups
            parts[f'{prefix}dn_'] = (score[:, :num_dn], box[:, :num_dn], pairs, divisor)
        for name, (own, own_box, pairs, divisor) in parts.items():
            values = reference.losses(own, own_box, pairs, *targets, num_classes, divisor)
            for kind, value in zip(('loss_cls', 'loss_bbox', 'loss_iou'), values):
                named[f'{name}{kind}'] = value
    return named


@pytest.mark.parametrize('num_denoising', [0, 4, 7])
def test_losses_and_gradients_equal_a_loop_over_layers_groups_and_objects(num_denoising):
    module, settings, feats = build(num_denoising=num_denoising, num_queries=5)
    weights = with_gradients(module)
    ours, theirs = pair(feats)
    batch = samples()
    targets = module._get_targets(batch)
    torch.manual_seed(5)
    losses = module.train().loss(ours, batch)
    torch.manual_seed(5)
    dn = make_denoising_queries(*targets, 3, 5, num_denoising)
    given = dn and dict(labels=dn.labels, boxes=dn.boxes, attn_mask=dn.attn_mask)
    num_dn = dn.labels.shape[1] if dn else 0
    assert (dn.num_groups if dn else 0) == num_denoising // 3
    expected = reference.head(theirs, weights, settings, training=True, denoising=given)
    expected = naive_losses(expected, dn, targets, 3, num_dn)
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-7, atol=1e-9, msg=name)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    check_gradients(module, weights, ours, theirs)
