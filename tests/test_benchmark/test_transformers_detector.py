import pytest
import torch
from helpers import CONFIGS, data_sample
from mmdet.registry import MODELS
from mmengine.config import Config


def test_trains_and_detects():
    pytest.importorskip('transformers')
    cfg = Config.fromfile(CONFIGS / 'bccd' / 'transformers_rtdetr_bccd.py')
    cfg.model.model.update(d_model=32, decoder_layers=1, encoder_hidden_dim=32)
    cfg.model.model.update(decoder_in_channels=[32] * 3)
    model = MODELS.build(cfg.model)
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
