"""What both models are made of, as sums and products."""

import torch


def linear(x, weights, name):
    """``W x + b`` for the last dimension."""
    return torch.einsum('...i,oi->...o', x, weights[f'{name}.weight']) + weights[f'{name}.bias']


def convolution(x, weight, bias, stride=1, padding=0):
    """Sum over the kernel's positions of the image, shifted there, times the weights there."""
    n, _, height, width = x.shape
    padded = x.new_zeros(n, x.shape[1], height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    kernel_height, kernel_width = weight.shape[2:]
    rows = (height + 2 * padding - kernel_height) // stride + 1
    columns = (width + 2 * padding - kernel_width) // stride + 1
    out = bias[:, None, None].expand(n, -1, rows, columns)
    for i in range(kernel_height):
        for j in range(kernel_width):
            seen = padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
            seen = seen[:, :, :rows, :columns]
            out = out + torch.einsum('ncyx,oc->noyx', seen, weight[:, :, i, j])
    return out


def batch_norm(x, weights, name, eps, training):
    """Per channel: with the batch's mean and variance in training, else with the stored ones."""
    if training:
        mean = x.mean((0, 2, 3))
        variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
    else:
        mean, variance = weights[f'{name}.running_mean'], weights[f'{name}.running_var']
    x = (x - mean[:, None, None]) / (variance[:, None, None] + eps) ** 0.5
    scale, shift = weights[f'{name}.weight'], weights[f'{name}.bias']
    return x * scale[:, None, None] + shift[:, None, None]


def layer_norm(x, weights, name, eps=1e-5):
    """Per token."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    x = (x - mean) / (variance + eps) ** 0.5
    return x * weights[f'{name}.weight'] + weights[f'{name}.bias']


def relu(x):
    return torch.where(x > 0, x, torch.zeros_like(x))


def silu(x):
    return x * sigmoid(x)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def softmax(x):
    """Over the last dimension."""
    x = torch.exp(x - x.amax(-1, keepdim=True))
    return x / x.sum(-1, keepdim=True)
