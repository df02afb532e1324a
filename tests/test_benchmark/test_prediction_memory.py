from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmdet.apis import DetInferencer
from mmengine.config import Config

from mmdet_vanilla.benchmark.prediction_memory import drift, resident_memory

pytestmark = pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='Linux only')


def test_drift():
    assert drift([100, 100]) == 0
    assert drift([98, 102, 100]) == pytest.approx(0.02)


def test_a_leak_is_seen():
    kept = []
    sizes = resident_memory(lambda image: kept.append(image.copy()), [np.ones(2**23)], 10, points=2)
    assert sizes[-1] - sizes[0] > 300 * 2**20 and drift(sizes) > 0.05


@pytest.mark.slow
def test_500_predictions_of_the_demos_model():
    """At length: tools/measure_prediction_memory.py."""
    cfg = Config.fromfile(CONFIGS / 'rtdetr_vanillanet_digits.py')
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 160)
    inferencer = DetInferencer(cfg, device='cpu', show_progress=False)
    rng = np.random.default_rng(0)
    sizes = ((160, 160), (200, 120), (333, 250))
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    threads = torch.get_num_threads()
    memory = resident_memory(lambda image: inferencer(image, no_save_vis=True), images, 500)
    assert torch.get_num_threads() == threads
    assert drift(memory) <= 0.02
