"""Where the scalars of a run are logged besides its work dir."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmengine.config import Config


class Backend(NamedTuple):
    """A visualisation backend of mmengine.

    Args:
        type: Its registered name.
        packages: Modules that it imports; they are called the same on PyPI.
    """

    type: str
    packages: tuple[str, ...]


BACKENDS = dict(
    tensorboard=Backend('TensorboardVisBackend', ('tensorboard',)),
    wandb=Backend('WandbVisBackend', ('wandb',)),
    mlflow=Backend('MLflowVisBackend', ('mlflow',)),
    clearml=Backend('ClearMLVisBackend', ('clearml',)),
    neptune=Backend('NeptuneVisBackend', ('neptune',)),
    dvclive=Backend('DVCLiveVisBackend', ('dvclive', 'pygit2')),
    aim=Backend('AimVisBackend', ('aim',)),
)


def add_vis_backends(cfg: Config, names: Sequence[str]) -> None:
    """Adds backends to ``visualizer.vis_backends`` of a config; those that are there stay.

    Args:
        cfg: Config of a run, changed in place.
        names: Keys of ``BACKENDS``.

    Raises:
        PreflightError: If a name is unknown or a package is not installed.
    """
    from .preflight import PreflightError

    for name in names:
        if name not in BACKENDS:
            raise PreflightError(
                f'{name!r} is no logging backend: expected some of {", ".join(BACKENDS)}.'
            )
    packages = [package for name in names for package in BACKENDS[name].packages]
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise PreflightError(
            f'logging to {", ".join(names)} needs {" and ".join(missing)}: install with '
            f'"pip install {" ".join(missing)}", or log elsewhere.'
        )
    if not cfg.get('visualizer'):
        # mmengine's default
        cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    backends = list(cfg.visualizer.get('vis_backends') or ())
    present = {backend['type'] for backend in backends}
    for name in dict.fromkeys(names):
        if BACKENDS[name].type not in present:
            backends.append(dict(type=BACKENDS[name].type))
    cfg.visualizer.vis_backends = backends
