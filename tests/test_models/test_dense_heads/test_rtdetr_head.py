import pytest
import torch
from helpers import data_sample, stand_in_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmdet_vanilla.models import RTDETRHead
from mmdet_vanilla.models.dense_heads.rtdetr_head import generate_anchors

SIZES = [(8, 10), (4, 5), (2, 3)]
BOXES = [[5.0, 5, 25, 30], [30, 10, 60, 50], [0, 0, 12, 8]]


def head(**kwargs):
    cfg = dict(
        type='RTDETRHead',
        num_classes=4,
        in_channels=[8] * 3,
        embed_dims=16,
        num_heads=2,
        feedforward_channels=16,
        num_queries=12,
        num_decoder_layers=3,
        num_denoising=8,
    )
    return stand_in_weights(MODELS.build({**cfg, **kwargs}))


def feats(n=2, sizes=SIZES):
    return [torch.rand(n, 8, *size) for size in sizes]


def total(losses):
    assert all(loss.dim() == 0 for loss in losses.values())
    return sum(losses.values())


def test_losses_by_name():
    module = head().train()
    samples = [data_sample(BOXES, [0, 1, 2], (64, 80)), data_sample(img_shape=(64, 80))]
    losses = module.loss(feats(), samples)
    kinds = {'loss_cls', 'loss_bbox', 'loss_iou'}
    layers = {'d0.', 'd1.', ''}
    expected = {p + k for p in layers | {'enc_'} for k in kinds}
    expected |= {f'{p}dn_{k}' for p in layers for k in kinds}
    assert set(losses) == expected
    assert all(loss > 0 for loss in losses.values())
    total(losses).backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize('num_denoising', [0, 8])
def test_no_objects_at_all_still_gives_every_parameter_a_gradient(num_denoising):
    module = head(num_denoising=num_denoising).train()
    losses = module.loss(feats(), [data_sample(img_shape=(64, 80)) for _ in range(2)])
    names = set(module.loss(feats(), [data_sample(BOXES, [0, 1, 2], (64, 80))] * 2))
    assert set(losses) == names
    assert all(loss == 0 for name, loss in losses.items() if not name.endswith('loss_cls'))
    total(losses).backward()
    assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize('num_classes', [1, 1000])
def test_number_of_classes(num_classes):
    module = head(num_classes=num_classes)
    samples = [data_sample(BOXES, [num_classes - 1] * 3, (64, 80))]
    assert total(module.train().loss(feats(1), samples)).isfinite()
    result = module.eval().predict(feats(1), samples)[0]
    assert result.labels.max() < num_classes and len(result) == min(300, 12 * num_classes)


def test_fewer_queries_than_objects():
    module = head(num_queries=2).train()
    losses = module.loss(feats(1), [data_sample(BOXES, [0, 1, 2], (64, 80))])
    assert total(losses).isfinite()


def test_fewer_positions_than_queries():
    module = head(num_queries=1000).eval()
    cls_scores, boxes = module(feats(1))
    assert cls_scores.shape == (1, 1, 80 + 20 + 6, 4) and boxes.shape[2] == 106


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(3)), flip=st.booleans())
def test_losses_do_not_depend_on_the_order_of_objects_and_images(order, flip):
    module = head(num_denoising=0).double().train()
    torch.manual_seed(0)
    maps = [feat.double() for feat in feats()]
    first = data_sample(BOXES, [0, 1, 2], (64, 80))
    second = data_sample([[10.0, 10, 40, 44]], [3], (64, 80))
    expected = module.loss(maps, [first, second])
    shuffled = data_sample([BOXES[i] for i in order], [[0, 1, 2][i] for i in order], (64, 80))
    samples = [shuffled, second]
    if flip:
        maps, samples = [feat.flip(0) for feat in maps], samples[::-1]
    losses = module.loss(maps, samples)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-6, atol=1e-9)


def test_evaluation_uses_eval_idx():
    module = head(eval_idx=1).eval()
    reference = head(num_decoder_layers=2).eval()
    reference.load_state_dict(module.state_dict(), strict=False)
    maps = feats()
    torch.testing.assert_close(module(maps), reference(maps))
    assert module.train()(maps).cls_scores.shape[0] == 3


def test_learnt_queries():
    module = head(learnt_init_query=True)
    samples = [data_sample(BOXES, [0, 1, 2], (64, 80))]
    total(module.train().loss(feats(1), samples)).backward()
    assert module.tgt_embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('method', ['bilinear', 'discrete'])
def test_points_per_level(method):
    module = head(num_points=[1, 2, 3], sampling_method=method).eval()
    assert module.decoder.layers[0].cross_attn.sampling_offsets.out_features == 2 * 2 * 6
    assert module(feats())[1].isfinite().all()


def test_anchors():
    logits, valid = generate_anchors([(2, 4), (1, 2)], torch.float64)
    anchors = logits.sigmoid()
    assert valid.all() and anchors.shape == (10, 4)
    torch.testing.assert_close(anchors[5], torch.tensor([0.375, 0.75, 0.05, 0.05]).double())
    torch.testing.assert_close(anchors[9], torch.tensor([0.75, 0.5, 0.1, 0.1]).double())
    logits, valid = generate_anchors([(80, 10)])
    assert not valid.reshape(80, 10)[[0, -1]].any() and valid.reshape(80, 10)[1:-1].all()
    assert logits[0].isinf().all()
    assert generate_anchors([(1, 1)] * 7)[1].all()
    # A centre exactly at the margin is not valid, whatever the rounding.
    for dtype in (torch.float32, torch.float64):
        valid = generate_anchors([(50, 50)], dtype)[1].reshape(50, 50)
        assert valid.sum() == 48 * 48 and valid[1:-1, 1:-1].all()


def predict_box(box, **meta):
    """Detection of a head whose only query predicts ``box`` (cx, cy, w, h, 0..1)."""
    module = RTDETRHead(num_classes=2, in_channels=[8], embed_dims=16, num_heads=2)
    logits = torch.tensor([3.0, -3.0]).reshape(1, 1, 1, 2)
    sample = data_sample(**meta)
    results = module.predict_by_feat(
        logits, torch.tensor(box).reshape(1, 1, 1, 4), [sample.metainfo], rescale=True
    )
    return results[0]


def test_boxes_are_right_in_the_original_image():
    # A 100 x 50 image (width x height), scaled by 2, padded to 256 x 128.
    result = predict_box(
        [0.25, 0.5, 0.125, 0.25],
        img_shape=(100, 200),
        batch_shape=(128, 256),
        scale_factor=(2.0, 2.0),
    )
    torch.testing.assert_close(result.bboxes[0], torch.tensor([24.0, 24, 40, 40]))
    assert result.labels.tolist() == [0, 1]
    torch.testing.assert_close(result.scores, torch.tensor([3.0, -3]).sigmoid())
    # A stretched one: 320 x 240 to 64 x 64.
    result = predict_box([0.5, 0.25, 0.5, 0.25], img_shape=(64, 64), scale_factor=(0.2, 64 / 240))
    torch.testing.assert_close(result.bboxes[0], torch.tensor([80.0, 30, 240, 90]))


def test_boxes_are_clipped_to_the_image_not_to_the_padding():
    result = predict_box([0.9, 0.5, 0.4, 1.2], img_shape=(100, 200), batch_shape=(128, 256))
    torch.testing.assert_close(result.bboxes[0], torch.tensor([179.2, 0, 200, 100]))


def test_targets_are_normalised_by_the_padded_input():
    module = head()
    sample = data_sample([[64.0, 32, 128, 64]], [1], (100, 200), (128, 256))
    targets = module._get_targets([sample])
    torch.testing.assert_close(targets.boxes[0], torch.tensor([[0.375, 0.375, 0.25, 0.25]]))


def test_max_per_img():
    module = head(test_cfg=dict(max_per_img=5)).eval()
    result = module.predict(feats(1), [data_sample(img_shape=(64, 80))])[0]
    assert len(result) == 5 and (result.scores.diff() <= 0).all()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_classes=0), 'num_classes=0'),
        (dict(num_queries=0), 'num_queries=0'),
        (dict(num_denoising=-1), 'num_denoising=-1'),
        (dict(eval_idx=3), 'eval_idx=3 is out of range for 3 layers'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        head(**kwargs)


@pytest.mark.parametrize('dtype', [torch.bfloat16])
def test_autocast(dtype):
    module = head().train()
    samples = [data_sample(BOXES, [0, 1, 2], (64, 80))]
    with torch.autocast('cpu', dtype):
        losses = module.loss(feats(1), samples)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 5), column=st.integers(0, 9), transpose=st.booleans())
def test_reference_points_follow_the_object_on_rectangles(row, column, transpose):
    """With the initial weights a box is its anchor: that of the token with the best score."""
    height, width = (10, 6) if transpose else (6, 10)
    row, column = (column, row) if transpose else (row, column)
    module = RTDETRHead(num_classes=1, in_channels=[16], embed_dims=16, num_heads=2, num_queries=1)
    module.eval()
    image = torch.zeros(1, 16, height, width)
    image[..., row, column] = torch.randn(16)
    with torch.no_grad():
        memory = module.input_proj[0](image)[0, :, row, column]
        module.enc_score_head.weight.copy_(module.enc_output(memory))
        boxes = module([image])[1][0, 0, 0]
    expected = [(column + 0.5) / width, (row + 0.5) / height, 0.05, 0.05]
    torch.testing.assert_close(boxes, torch.tensor(expected), atol=1e-5, rtol=0)
