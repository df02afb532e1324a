import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from mmdet_vanilla.utils import vis_backends
from mmdet_vanilla.utils.preflight import PreflightError
from mmdet_vanilla.utils.vis_backends import BACKENDS, add_vis_backends


@pytest.fixture
def installed(monkeypatch):
    names = set()
    monkeypatch.setattr(vis_backends, 'find_spec', lambda name: name in names or None)
    return names


def config(*types):
    backends = [dict(type=name) for name in types]
    return Config(dict(visualizer=dict(type='DetLocalVisualizer', vis_backends=backends)))


def test_backends_are_added_once_to_those_that_are_there(installed):
    installed.update(('tensorboard', 'wandb'))
    cfg = config('LocalVisBackend', 'WandbVisBackend')
    add_vis_backends(cfg, ['tensorboard', 'wandb', 'tensorboard'])
    types = [backend['type'] for backend in cfg.visualizer.vis_backends]
    assert types == ['LocalVisBackend', 'WandbVisBackend', 'TensorboardVisBackend']
    assert Config.fromstring(cfg.pretty_text, '.py').visualizer == cfg.visualizer


def test_a_config_without_visualizer_keeps_the_local_backend(installed):
    installed.add('tensorboard')
    cfg = Config(dict())
    add_vis_backends(cfg, ['tensorboard'])
    types = [backend['type'] for backend in cfg.visualizer.vis_backends]
    assert types == ['LocalVisBackend', 'TensorboardVisBackend']


def test_nothing_asked_nothing_changed():
    cfg = config('LocalVisBackend')
    before = cfg.pretty_text
    add_vis_backends(cfg, [])
    assert cfg.pretty_text == before


def test_missing_packages_and_unknown_names(installed):
    installed.add('dvclive')
    cfg = config()
    with pytest.raises(PreflightError, match='needs tensorboard and pygit2.*pip install tensorb'):
        add_vis_backends(cfg, ['tensorboard', 'dvclive'])
    with pytest.raises(PreflightError, match="'tensorbored' is no logging backend.*tensorboard"):
        add_vis_backends(cfg, ['tensorbored'])
    assert cfg.visualizer.vis_backends == []


def test_mmengine_has_them_all():
    assert all(backend.type in VISBACKENDS for backend in BACKENDS.values())
