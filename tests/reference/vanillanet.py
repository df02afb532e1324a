"""VanillaNet's training form (https://arxiv.org/abs/2305.12972, section 3)."""

import torch

from .basics import batch_norm, convolution, relu


def series_activation(x, weights, name, act_num, eps, training):
    """Section 3.2: ReLU, every channel's weighted sum over (2n + 1) x (2n + 1) positions, BN."""
    n, channels, height, width = x.shape
    kernel = weights[f'{name}.weight']
    padded = x.new_zeros(n, channels, height + 2 * act_num, width + 2 * act_num)
    padded[:, :, act_num : act_num + height, act_num : act_num + width] = relu(x)
    out = torch.zeros_like(x)
    for i in range(2 * act_num + 1):
        for j in range(2 * act_num + 1):
            shifted = padded[:, :, i : i + height, j : j + width]
            out = out + shifted * kernel[:, 0, i, j][:, None, None]
    return batch_norm(out, weights, f'{name}.bn', eps, training)


def leaky(x, act_learn):
    """Section 3.1: ``(1 - lambda) ReLU(x) + lambda x``."""
    return (1 - act_learn) * relu(x) + act_learn * x


def max_pool(x, stride):
    """The largest of every stride x stride positions; what is left over at the end is dropped."""
    height, width = x.shape[2] // stride, x.shape[3] // stride
    rows = [
        torch.stack(
            [
                x[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride].amax((2, 3))
                for j in range(width)
            ],
            dim=-1,
        )
        for i in range(height)
    ]
    return torch.stack(rows, dim=-2)


def adaptive_max_pool(x, height, width):
    """Position i of n covers floor(i size / n) to ceil((i + 1) size / n), as the authors pool."""

    def window(i, n, size):
        return slice(i * size // n, -(-(i + 1) * size // n))

    rows = []
    for i in range(height):
        row = x[:, :, window(i, height, x.shape[2])]
        parts = [row[..., window(j, width, x.shape[3])].amax((2, 3)) for j in range(width)]
        rows.append(torch.stack(parts, dim=-1))
    return torch.stack(rows, dim=-2)


def vanillanet(
    image, weights, strides, act_num=3, ada_pool=False, act_learn=1.0, eps=1e-6, training=False
):
    """The stem's output and that of every block.

    Args:
        image: (N, 3, H, W).
        weights: By the authors' names, of the training form.
        strides: Of every block.
        act_num: The series activation's n.
        ada_pool: Whether the stem has stride 3 and padding 1, and pooling rounds up.
        act_learn: The paper's lambda.
        eps: Of the normalisation.
        training: Whether normalisation uses the statistics of the batch.
    """

    def conv_norm(x, conv, norm, **geometry):
        x = convolution(x, weights[f'{conv}.weight'], weights[f'{conv}.bias'], **geometry)
        return batch_norm(x, weights, norm, eps, training)

    def activate(x, name):
        return series_activation(x, weights, name, act_num, eps, training)

    geometry = dict(stride=3, padding=1) if ada_pool else dict(stride=4)
    x = leaky(conv_norm(image, 'stem1.0', 'stem1.1', **geometry), act_learn)
    x = activate(conv_norm(x, 'stem2.0', 'stem2.1'), 'stem2.2')
    outs = [x]
    for i, stride in enumerate(strides):
        x = leaky(conv_norm(x, f'stages.{i}.conv1.0', f'stages.{i}.conv1.1'), act_learn)
        x = conv_norm(x, f'stages.{i}.conv2.0', f'stages.{i}.conv2.1')
        if stride == 2 and ada_pool:
            x = adaptive_max_pool(x, -(-x.shape[2] // 2), -(-x.shape[3] // 2))
        elif stride == 2:
            x = max_pool(x, 2)
        x = activate(x, f'stages.{i}.act')
        outs.append(x)
    return outs
