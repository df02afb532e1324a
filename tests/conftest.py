import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import mmdet_vanilla  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / 'shared' / 'golden'
sys.path.insert(0, str(ROOT / 'tests'))


@pytest.fixture(autouse=True)
def default_scope():
    init_default_scope('mmdet')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)


class Golden:
    """Outputs of the authors' code, and the weights that they were computed with."""

    def __init__(self):
        sys.path.insert(0, str(GOLDEN))
        import fill

        self.fill = fill

    def expected(self, name):
        path = GOLDEN / 'expected' / f'{name}.npz'
        if not path.exists():
            pytest.skip(f'no golden outputs of {name}')
        return np.load(path)

    def keys(self, name):
        return json.loads((GOLDEN / 'keys' / f'{name}.json').read_text())

    def state_dict(self, name, salt=0):
        """The authors' names with stand-in values, without what an implementation computes."""
        return {
            key: torch.from_numpy(np.asarray(self.fill.values(key, shape, salt)))
            for key, shape in self.keys(name).items()
            if not any(part in key for part in self.fill.SKIP)
        }

    def image(self, shape, seed=0):
        return torch.from_numpy(self.fill.image(shape, seed))


@pytest.fixture(scope='session')
def golden():
    if not GOLDEN.is_dir():
        pytest.skip('the golden outputs are not beside this repository')
    return Golden()
