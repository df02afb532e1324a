"""The two halves of mmcv's convolution that is computed in marked cells alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Writes the neighbourhoods of the marked cells into ``col``.

    Args:
        im: Features, shape (1, C, H, W).
        mask_h_idx: Row of each marked cell, shape (M,).
        mask_w_idx: Its column.
        col: Result, shape (C * kernel_h * kernel_w, M).
        kernel_h: Height of the neighbourhood.
        kernel_w: Its width.
        pad_h: Zeros above and below.
        pad_w: Zeros left and right.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    windows = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)  # (C, H', W', k_h, k_w)
    col.copy_(windows[:, mask_h_idx, mask_w_idx].permute(0, 2, 3, 1).reshape(col.shape))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Writes values (channels, M) into the marked cells of ``im`` (1, channels, H, W)."""
    im[0][:, mask_h_idx, mask_w_idx] = col
