"""Labels of crowded points."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmdet_vanilla.comparison.labels import label_points


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('dpi', [72, 100, 130])
def test_no_label_covers_another_one(seed, dpi):
    figure = Figure(figsize=(8.2, 5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.random.default_rng(seed).normal(0.5, 0.12, (18, 2)).clip(0, 1)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label_points(axes, [f'detector_{i}_of_a_zoo' for i in range(18)], places, [6.0] * 18)
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in axes.texts]
    assert len(boxes) == 18
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert axes.bbox.x0 - 2 <= box.x0 and box.x1 <= axes.bbox.x1 + 2
