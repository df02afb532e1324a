import pytest
import torch
from helpers import CONFIGS, data_sample
from mmdet.registry import MODELS
from mmengine.config import Config


def build(**settings):
    pytest.importorskip('transformers')
    cfg = Config.fromfile(CONFIGS / 'bccd' / 'transformers_rtdetr_bccd.py')
    cfg.model.model.update(d_model=32, decoder_layers=1, encoder_hidden_dim=32)
    cfg.model.model.update(decoder_in_channels=[32] * 3, **settings)
    return MODELS.build(cfg.model)


def test_trains_and_detects():
    model = build()
    samples = [data_sample([[8.0, 8, 40, 60]], [1], (96, 128), scale_factor=(2.0, 2.0))]
    image = torch.rand(1, 3, 96, 128)
    model.train()
    loss = model.loss(image, samples)['loss']
    loss.backward()
    assert loss.isfinite()
    with torch.no_grad():
        result = model.eval().predict(image, samples)[0].pred_instances
    assert len(result) == 100 and (result.scores[:-1] >= result.scores[1:]).all()
    assert result.labels.max() <= 2 and result.bboxes.max() <= 128


LABELS = [
    dict(class_labels=torch.tensor([1, 0]), boxes=torch.tensor([[0.3, 0.4, 0.2, 0.3]] * 2)),
    dict(class_labels=torch.tensor([2]), boxes=torch.tensor([[0.6, 0.5, 0.5, 0.4]])),
]
PARTS = ('loss_vfl', 'loss_bbox', 'loss_giou')


def test_the_loss_of_the_last_layer_is_that_of_the_predicting_queries_alone():
    model = build(decoder_layers=2).model.train()
    outs = model(pixel_values=torch.rand(2, 3, 96, 128), labels=LABELS)
    num_denoising, num_queries = outs.denoising_meta_values['dn_num_split']
    assert num_denoising > 0 and outs.logits.shape[1] == num_denoising + num_queries

    from transformers.loss.loss_rt_detr import RTDetrLoss

    def last_layer(start):
        outputs = dict(logits=outs.logits[:, start:], pred_boxes=outs.pred_boxes[:, start:])
        losses = RTDetrLoss(model.config)(outputs, LABELS)
        return torch.stack([losses[part] for part in PARTS])

    found = torch.stack([outs.loss_dict[part] for part in PARTS])
    torch.testing.assert_close(found, last_layer(num_denoising))
    # Otherwise this shows nothing.
    assert not torch.allclose(found, last_layer(0), rtol=1e-3)
    # The other layers and the denoising itself are as they were.
    assert {f'{part}_{kind}' for part in PARTS for kind in ('aux_0', 'dn_1')} <= set(outs.loss_dict)


def test_without_denoising_the_loss_is_that_of_transformers():
    model = build(num_denoising=0).model.train()
    image = torch.rand(2, 3, 96, 128)
    ours = model(pixel_values=image, labels=LABELS).loss_dict

    from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

    model.loss_function = RTDetrForObjectDetectionLoss
    theirs = model(pixel_values=image, labels=LABELS).loss_dict
    assert ours.keys() == theirs.keys() and set(PARTS) <= set(ours)
    for part, loss in ours.items():
        torch.testing.assert_close(loss, theirs[part])
