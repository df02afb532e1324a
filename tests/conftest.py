import json
import signal
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import mmdet_vanilla  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden'
sys.path.insert(0, str(ROOT / 'tests'))

from golden import fill  # noqa: E402

# The same examples in every run, and none fails for being slow on a busy machine.
hypothesis.settings.register_profile(
    'repeatable',
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('repeatable')


@pytest.fixture
def no_hanging():
    """What hangs fails."""

    def late(*_):
        raise TimeoutError('hangs')

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def default_scope():
    init_default_scope('mmdet')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)


class Golden:
    """Outputs of the authors' code, and the weights that they were computed with.

    See tests/golden/README.md.
    """

    @staticmethod
    def expected(name):
        with np.load(GOLDEN / 'expected' / f'{name}.npz') as arrays:
            return dict(arrays)

    @staticmethod
    def keys(name):
        return json.loads((GOLDEN / 'keys' / f'{name}.json').read_text())

    def state_dict(self, name, salt=0):
        """The authors' names with stand-in values, without what an implementation computes."""
        return {
            key: torch.from_numpy(np.asarray(fill.values(key, shape, salt)))
            for key, shape in self.keys(name).items()
            if not any(part in key for part in fill.SKIP)
        }

    @staticmethod
    def image(shape, seed=0):
        return torch.from_numpy(fill.image(shape, seed))


@pytest.fixture(scope='session')
def golden():
    return Golden()
