import pytest
from helpers import CONFIGS

from mmdet_vanilla.benchmark import cases, profiling

NANO = str(CONFIGS / 'rtdetr_vanillanet_nano_coco.py')


def test_parts_of_a_training_step_and_a_forward_pass():
    case = cases.TrainingStep(NANO, batch=2, objects=3, size=64)
    model = case.model()
    matcher = model.bbox_head.matcher
    samples = case.samples(model.bbox_head.num_classes)
    parts = profiling.profile_training(model, case.images(), samples, rounds=1)
    backward = ('losses', 'head and decoder', 'neck', 'backbone')
    assert {f'{name}, backward' for name in backward} <= set(parts)
    assert {'backbone', 'neck', 'head', 'decoder', 'sampling', 'matching', 'losses'} <= set(parts)
    assert min(parts.values()) >= 0
    assert sum(share for *_, share in profiling.shares(parts)) == pytest.approx(1)
    assert model.bbox_head.matcher is matcher and 'loss_by_feat' not in vars(model.bbox_head)

    network, images = cases.Inference(NANO, size=64).prepare()
    parts = profiling.profile_inference(network, images, rounds=1)
    assert {'backbone', 'neck', 'decoder', 'sampling', 'postprocessing'} <= set(parts)


def test_inner_parts_do_not_count_for_outer_ones(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(profiling.time, 'perf_counter', lambda: next(now))
    watch = profiling.Stopwatch()
    watch.enter('outer')
    watch.enter('inner')
    watch.leave()
    watch.rename('rest')
    watch.leave()
    assert watch.seconds == dict(outer=2, inner=1, rest=1)
