import pytest
from helpers import CONFIGS

from mmdet_vanilla.benchmark import scaling
from mmdet_vanilla.benchmark.surroundings import evaluation_seconds

NANO = str(CONFIGS / 'rtdetr_vanillanet_nano_coco.py')


def test_exponent():
    assert scaling.fit_exponent([0, 1, 2, 4], [9, 3, 12, 48]) == pytest.approx(2)


@pytest.mark.parametrize('name', [name for name, axis in scaling.AXES.items() if not axis.memory])
def test_sweep_and_plot(name, tmp_path):
    values = [2, 4] if name != 'side' else [64, 96]
    result = scaling.sweep(name, NANO, rounds=1, values=values)
    assert result['x'] == values and len(result['ms']) == 2 and min(result['ms']) > 0
    scaling.plot({name: result}, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size < 150_000


def test_evaluation():
    assert evaluation_seconds(3, detections=10) > 0
