import copy
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import TINY_RTDETR, data_sample, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_vanilla.evaluation import compare_detections
from mmdet_vanilla.models.detectors import rtdetr
from mmdet_vanilla.utils.official_names import from_official

R18 = dict(
    type='RTDETR',
    backbone=dict(type='ResNetVd', depth=18, out_indices=(1, 2, 3), norm_eval=False),
    neck=dict(type='RTDETRHybridEncoder', expansion=0.5),
    bbox_head=dict(type='RTDETRHead', num_classes=80, num_decoder_layers=3),
)


def tiny(**kwargs):
    cfg = copy.deepcopy(TINY_RTDETR)
    for part, values in kwargs.items():
        cfg[part].update(values)
    return stand_in_weights(MODELS.build(cfg)).eval()


def build_r18(golden, name, salt, **head):
    cfg = copy.deepcopy(R18)
    cfg['bbox_head'].update(head)
    model = MODELS.build(cfg).double()
    state = {from_official(k): v for k, v in golden.state_dict(name, salt).items()}
    if not model.bbox_head.num_denoising:
        state.pop('bbox_head.denoising_class_embed.weight')
    result = model.load_state_dict(state, strict=False)
    assert all(key.endswith('num_batches_tracked') for key in result.missing_keys)
    assert not result.unexpected_keys
    return model


@pytest.mark.parametrize('name', ['rtdetr_r18vd', 'rtdetrv2_r18vd', 'rtdetrv2_r18vd_dsp'])
def test_equals_the_authors_code(golden, name):
    expected = golden.expected(name)
    method = 'discrete' if name.endswith('dsp') else 'bilinear'
    model = build_r18(golden, name, int(expected['salt']), sampling_method=method).eval()
    image = golden.image((1, 3, 640, 640))
    sample = data_sample(img_shape=(640, 640), scale_factor=(1.0, 640 / 480))
    boxes = expected['post_boxes_xyxy'].clip(0, [640, 480, 640, 480])  # as mmdet clips them
    for tolerance in (1e-9, 1e-7):  # training form, fused form
        with torch.no_grad():
            feats = model.extract_feat(image)
            logits, cxcywh = model.bbox_head(feats)
            result = model.predict(image, [sample.clone()])[0].pred_instances
        np.testing.assert_allclose(logits[-1, 0], expected['logits'], rtol=1e-8, atol=tolerance)
        np.testing.assert_allclose(
            cxcywh[-1, 0], expected['boxes_cxcywh'], rtol=1e-8, atol=tolerance
        )
        assert (result.labels.numpy() == expected['post_labels']).all()
        np.testing.assert_allclose(result.scores, expected['post_scores'], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(result.bboxes, boxes, rtol=1e-8, atol=640 * tolerance)
        model.switch_to_deploy()


def test_float32_and_fused_detections_match_the_authors(golden):
    expected = golden.expected('rtdetr_r18vd')
    model = build_r18(golden, 'rtdetr_r18vd', int(expected['salt'])).float().eval()
    boxes = expected['post_boxes_xyxy'].clip(0, [640, 480, 640, 480])
    theirs = InstanceData(
        bboxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(expected['post_labels']),
        scores=torch.from_numpy(expected['post_scores']),
    )
    image = golden.image((1, 3, 640, 640)).float()
    sample = data_sample(img_shape=(640, 640), scale_factor=(1.0, 640 / 480))
    for _ in range(2):
        with torch.no_grad():
            result = model.predict(image, [sample.clone()])[0].pred_instances
        difference = compare_detections(theirs, result)
        # The last of the 300 may change places with the first that were left out.
        assert difference.num_unmatched <= 2 and difference.num_labels == 0
        assert difference.score <= 1e-4 and difference.box <= 0.05
        model.switch_to_deploy()


# Their name of a loss term and ours; `_aux_2` is the encoder's.
LAYERS = {'': '', '_aux_0': 'd0.', '_aux_1': 'd1.', '_aux_2': 'enc_'}
TERMS = {'loss_vfl': 'loss_cls', 'loss_bbox': 'loss_bbox', 'loss_giou': 'loss_iou'}


def test_losses_and_gradients_equal_the_authors(golden):
    expected = golden.expected('rtdetr_r18vd_loss')
    model = build_r18(golden, 'rtdetr_r18vd', 0, num_denoising=0).train()
    samples = []
    for i in range(2):
        boxes = torch.from_numpy(expected[f'target{i}/boxes_cxcywh']).reshape(-1, 4) * 320
        boxes = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        labels = torch.from_numpy(expected[f'target{i}/labels']).long()
        sample = data_sample(img_shape=(320, 320))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    losses = model.loss(golden.image((2, 3, 320, 320), seed=1), samples)
    assert len(losses) == len(LAYERS) * len(TERMS)
    for suffix, prefix in LAYERS.items():
        for theirs, ours in TERMS.items():
            loss = losses[prefix + ours].item()
            assert loss == pytest.approx(float(expected[f'loss/{theirs}{suffix}']), rel=1e-8)
    total = sum(losses.values())
    assert total.item() == pytest.approx(float(expected['total']), rel=1e-8)
    total.backward()
    params = dict(model.named_parameters())
    largest = float(expected['grad_norm_total'])
    for key in expected:
        if key.startswith('grad_norm/'):
            norm = params[from_official(key[len('grad_norm/') :])].grad.norm().item()
            # Gradients that are zero but for rounding have no digits to compare.
            assert norm == pytest.approx(float(expected[key]), rel=1e-6, abs=1e-12 * largest), key


class HostReads(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ('aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select'):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('num_layers', [1, 3])
def test_a_training_step_reads_from_the_device_once(num_layers, monkeypatch):
    model = tiny(bbox_head=dict(num_decoder_layers=num_layers)).train()
    samples = [data_sample([[4.0, 6, 40, 50], [8, 8, 30, 30]], [1, 0], (64, 64)) for _ in range(2)]
    transfers = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda x: transfers.append(x.shape) or to_host(x))
    with HostReads() as reads:
        sum(model.loss(torch.rand(2, 3, 64, 64), samples).values()).backward()
    [costs] = transfers
    assert costs[:2] == (num_layers + 1, 2)
    assert not reads.counts


def test_in_channels_follow_the_backbone():
    for arch, out_indices in (('5', (0, 1, 2)), ('6', (0, 1)), ('13', (0, 1, 8, 10))):
        model = tiny(backbone=dict(arch=arch, out_indices=out_indices))
        assert model.neck.in_channels == model.backbone.out_channels
        assert len(model.bbox_head.input_proj) == len(out_indices)
        result = model.predict(torch.rand(1, 3, 64, 96), [data_sample(img_shape=(64, 96))])
        assert result[0].pred_instances.bboxes.isfinite().all()


def test_other_in_channels():
    with pytest.raises(ValueError, match=r'neck.in_channels=\(1, 2, 3\).*\(16, 32, 64\) channels'):
        tiny(neck=dict(in_channels=(1, 2, 3)))


def test_backbone_that_does_not_state_its_channels():
    cfg = copy.deepcopy(TINY_RTDETR)
    cfg['backbone'] = dict(type='ResNet', depth=18, out_indices=(1, 2, 3))
    with pytest.raises(ValueError, match='ResNet does not state its out_channels'):
        MODELS.build(cfg)
    cfg['backbone'] = dict(type='EfficientNet', arch='b0', out_indices=(3, 4, 5))
    cfg['neck']['in_channels'] = (40, 112, 320)
    assert MODELS.build(cfg).neck.in_channels == (40, 112, 320)
    cfg['backbone'] = dict(type='ResNet', depth=18, out_indices=(1, 2, 3))
    cfg['neck']['in_channels'] = (128, 256, 512)
    assert MODELS.build(cfg).neck.in_channels == (128, 256, 512)


def test_building_changes_no_config():
    cfg = ConfigDict(copy.deepcopy(TINY_RTDETR), train_cfg=None, test_cfg=dict(max_per_img=5))
    before = copy.deepcopy(cfg)
    assert MODELS.build(cfg).bbox_head.test_cfg.max_per_img == 5
    assert cfg == before and MODELS.build(cfg) is not None


def layout(model):
    weight = model.neck.downsample_convs[0].conv.weight
    return {
        name
        for name in ('contiguous_format', 'channels_last')
        if weight.is_contiguous(memory_format=getattr(torch, name))
    }


@pytest.mark.parametrize(
    'device, expected', [('cpu', 'channels_last'), ('cuda', 'contiguous_format')]
)
def test_layout_follows_the_machine(device, expected, monkeypatch):
    monkeypatch.setattr(rtdetr, 'get_device', lambda: device)
    assert layout(tiny()) == {expected}
    assert layout(MODELS.build({**TINY_RTDETR, 'channels_last': True})) == {'channels_last'}
    assert layout(MODELS.build({**TINY_RTDETR, 'channels_last': False})) == {'contiguous_format'}


def test_layout_outlives_loading_copying_merging_and_fusing():
    plain, model = (MODELS.build({**TINY_RTDETR, 'channels_last': last}) for last in (False, True))
    image, sample = torch.rand(2, 3, 96, 64), data_sample([[4.0, 6, 40, 50]], [1], (96, 64))
    model.load_state_dict(plain.state_dict())
    forms = [model, copy.deepcopy(model)]
    forms[1].backbone.merge_pairs()
    stem = forms[1].backbone.merged[0].weight
    assert stem.is_contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    loss, _ = plain.parse_losses(plain.train().loss(image, [sample.clone(), sample.clone()]))
    torch.manual_seed(0)
    losses = model.train().loss(image, [sample.clone(), sample.clone()])
    torch.testing.assert_close(model.parse_losses(losses)[0], loss, rtol=1e-4, atol=0)
    assert all(
        feat.is_contiguous(memory_format=torch.channels_last) for feat in model.extract_feat(image)
    )
    for form in forms:
        assert layout(form) == {'channels_last'}
        form.switch_to_deploy()
        assert layout(form) == {'channels_last'}
    plain.switch_to_deploy().load_state_dict(model.state_dict())
    assert layout(plain) == {'contiguous_format'}


@pytest.mark.parametrize('channels_last', [False, True])
def test_fusing_keeps_the_detections(channels_last):
    model = stand_in_weights(MODELS.build({**TINY_RTDETR, 'channels_last': channels_last})).eval()
    image, sample = torch.rand(2, 3, 96, 64), data_sample(img_shape=(96, 64))
    samples = [sample.clone(), sample.clone()]
    expected = [s.pred_instances for s in model.predict(image, copy.deepcopy(samples))]
    for _ in range(2):
        assert model.switch_to_deploy() is model
        for a, b in zip(expected, model.predict(image, copy.deepcopy(samples))):
            b = b.pred_instances
            assert torch.equal(a.labels, b.labels)
            torch.testing.assert_close(a.scores, b.scores, atol=1e-4, rtol=0)
            torch.testing.assert_close(a.bboxes, b.bboxes, atol=0.01, rtol=0)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize('shape', [(320, 640), (640, 320), (490, 650), (512, 672), (33, 640)])
def test_any_size_of_the_input(shape):
    model = tiny()
    sample = data_sample([[4.0, 4, 30, 30]], [1], shape)
    result = model.predict(torch.rand(1, 3, *shape), [sample.clone()])[0].pred_instances
    assert len(result) == 40 and result.bboxes.isfinite().all()
    assert (result.bboxes <= torch.tensor([shape[1], shape[0]] * 2)).all()
    losses = model.train().loss(torch.rand(1, 3, *shape), [sample])
    assert sum(losses.values()).isfinite()


@MODELS.register_module()
class Cells(torch.nn.Module):
    """As a backbone the mean colour of every 8 x 8 pixels, as a neck nothing."""

    def __init__(self, in_channels=(3,)):
        super().__init__()
        self.out_channels = self.in_channels = in_channels

    def forward(self, x):
        return (torch.nn.functional.avg_pool2d(x, 8),) if torch.is_tensor(x) else x


def test_boxes_are_where_the_object_is_in_images_of_odd_sizes_in_one_batch():
    """With the initial weights a box is the anchor of the bright cell, known by hand."""
    head = dict(type='RTDETRHead', num_classes=1, embed_dims=16, num_heads=2, num_queries=1)
    torch.manual_seed(3)
    neck = dict(type='Cells', in_channels=(3,))
    cfg = dict(type='RTDETR', backbone=dict(type='Cells'), neck=neck, bbox_head=head)
    cfg['bbox_head']['in_channels'] = [3]
    cfg['data_preprocessor'] = dict(
        type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3, pad_size_divisor=32
    )
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        bright = model.bbox_head.input_proj[0](torch.ones(1, 3, 1, 1)).flatten()
        model.bbox_head.enc_score_head.weight.copy_(model.bbox_head.enc_output(bright))
    # Height and width of the file, its scale factors (width, height), the bright cell.
    cases = [
        ((75, 103), (2.0, 2.0), (5, 10)),
        ((51, 60), (2.0, 1.0), (2, 7)),
        ((33, 151), (1.0, 3.0), (11, 17)),
    ]
    images, samples, expected = [], [], []
    for (height, width), (x, y), (row, column) in cases:
        image = torch.zeros(3, int(height * y), int(width * x), dtype=torch.uint8)
        image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
        assert image.any()
        images.append(image)
        samples.append(data_sample(img_shape=tuple(image.shape[1:]), scale_factor=(x, y)))
        assert samples[-1].ori_shape == (height, width)
        # The batch is padded to 160 x 224, of which an anchor has a twentieth.
        cx, cy, w, h = 8 * column + 4, 8 * row + 4, 224 / 20, 160 / 20
        corners = [(cx - w / 2) / x, (cy - h / 2) / y, (cx + w / 2) / x, (cy + h / 2) / y]
        expected.append(corners)
    results = model.test_step(dict(inputs=images, data_samples=samples))
    for result, corners in zip(results, expected):
        torch.testing.assert_close(
            result.pred_instances.bboxes, torch.tensor([corners]), atol=1e-3, rtol=0
        )


def test_batch_of_two_sizes():
    """Padding changes what a network sees, but not where its boxes end up."""
    model = tiny(bbox_head=dict(num_classes=1))
    cfg = dict(type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3, pad_size_divisor=32)
    preprocess = MODELS.build(cfg)
    images = [torch.randint(255, (3, 60, 90)).byte(), torch.randint(255, (3, 90, 50)).byte()]
    samples = [data_sample(img_shape=tuple(image.shape[1:])) for image in images]
    data = preprocess(dict(inputs=images, data_samples=samples))
    assert data['inputs'].shape == (2, 3, 96, 96)
    results = model.predict(data['inputs'], data['data_samples'])
    for image, result in zip(images, results):
        boxes = result.pred_instances.bboxes
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([*image.shape[:0:-1]] * 2)).all()
