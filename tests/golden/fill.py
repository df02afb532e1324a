"""Deterministic stand-in weights and images: what they hold depends on names and shapes alone."""

import zlib

import numpy as np

# Tensors whose values an implementation computes itself.
SKIP = ('anchors', 'valid_mask', 'num_batches_tracked', 'num_points_scale', 'pos_embed')


def values(name, shape, salt=0):
    """Values (float64) of the tensor ``name``; another ``salt`` gives other values."""
    rng = np.random.default_rng(zlib.crc32(f'{name}{salt or ""}'.encode()))
    if name.endswith('running_var'):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith('running_mean'):
        return rng.normal(0, 0.1, shape)
    if len(shape) <= 1:
        if name.endswith(('weight', 'scale')):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, 0.1, shape)
    fan_in = int(np.prod(shape[1:]))
    return rng.normal(0, fan_in**-0.5, shape)


def image(shape, seed=0):
    """A random image, 0..1."""
    return np.random.default_rng(seed).random(shape)
