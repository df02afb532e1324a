"""Attention-based intra-scale feature interaction, AIFI (RT-DETR, section 4.2)."""

from __future__ import annotations

import torch
from mmcv.cnn import build_activation_layer
from torch import Tensor, nn


def tokens_of(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C), row by row."""
    # Not flatten(2).transpose(1, 2): the strides of its gradient make the CPU's backward pass of
    # batch normalisation silently wrong for a single image (torch 2.1 to 2.13).
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def sincos_position_embedding_2d(
    height: int,
    width: int,
    channels: int,
    temperature: float = 10000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sine-cosine embedding of the positions of a feature map, row by row.

    A quarter of the channels each holds sin(y w), cos(y w), sin(x w) and cos(x w), with
    ``w_k = temperature ** (-4 k / channels)``. The authors' code pairs the axes the other way
    round from the order of the tokens: the same values on a square map, but wrong ones on a
    rectangle, so ours differs from theirs there.

    Args:
        height: Rows of the feature map.
        width: Columns of the feature map.
        channels: Channels of the embedding, a multiple of 4.
        temperature: Ratio of the longest to the shortest wavelength.
        dtype: Type in which the angles are computed and returned.
        device: Device of the result.

    Returns:
        (1, height * width, channels).
    """
    if channels % 4:
        raise ValueError(f'{channels} channels cannot hold a 2-D embedding: use a multiple of 4.')
    quarter = channels // 4
    omega = temperature ** (-torch.arange(quarter, dtype=dtype, device=device) / quarter)

    def waves(size: int) -> Tensor:
        angle = torch.arange(size, dtype=dtype, device=device)[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, height * width, channels)


class TransformerEncoderLayer(nn.Module):
    """Post-norm encoder layer: self-attention and feed-forward network.

    Args:
        channels: Channels of a token.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the feed-forward network.
        dropout: Dropout probability.
        act_cfg: Config of the activation.
    """

    def __init__(
        self,
        channels: int = 256,
        num_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        act_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(channels, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.act = build_activation_layer(act_cfg or dict(type='GELU'))

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """Args: tokens (N, L, C) and their position embedding (1, L, C). Returns (N, L, C)."""
        query = x + pos
        attended = self.self_attn(query, query, value=x, need_weights=False)[0]
        x = self.norm1(x + self.dropout(attended))
        hidden = self.linear2(self.dropout(self.act(self.linear1(x))))
        return self.norm2(x + self.dropout(hidden))


class TransformerEncoder(nn.Module):
    """A stack of encoder layers on one feature map.

    Args:
        num_layers: Number of layers.
        temperature: Of the position embedding.
        **layer_cfg: Arguments of :class:`TransformerEncoderLayer`.
    """

    def __init__(self, num_layers: int = 1, temperature: float = 10000.0, **layer_cfg) -> None:
        super().__init__()
        self.temperature = temperature
        self.layers = nn.ModuleList(TransformerEncoderLayer(**layer_cfg) for _ in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, c, h, w = x.shape
        pos = sincos_position_embedding_2d(h, w, c, self.temperature, x.dtype, x.device)
        tokens = tokens_of(x)
        for layer in self.layers:
            tokens = layer(tokens, pos)
        return tokens.transpose(1, 2).reshape(n, c, h, w)
