"""RT-DETR's decoder: deformable attention with iterative box refinement.

https://arxiv.org/abs/2304.08069, section 4.1 and appendix; the refinement is that of Deformable
DETR (https://arxiv.org/abs/2010.04159) with DINO's look forward twice
(https://arxiv.org/abs/2203.03605, section 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmcv.cnn import build_activation_layer
from torch import Tensor, nn

from .deformable_attention import DeformableAttention


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of probabilities 0..1, which are kept ``eps`` away from both ends."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


class MLP(nn.Module):
    """Linear layers with an activation between them.

    Args:
        in_channels: Channels of the input.
        hidden_channels: Channels between the layers.
        out_channels: Channels of the output.
        num_layers: Number of linear layers.
        act_cfg: Config of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        act_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.act = build_activation_layer(act_cfg or dict(type='ReLU'))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_channels) -> (..., out_channels)."""
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class RTDETRDecoderLayer(nn.Module):
    """Self-attention among the queries, deformable cross-attention, feed-forward; post-norm.

    Args:
        channels: Channels of a query.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the feed-forward network.
        dropout: Dropout probability.
        act_cfg: Config of the activation.
        attn_cfg: Arguments of :class:`DeformableAttention` (levels, points, sampling method).
    """

    def __init__(
        self,
        channels: int = 256,
        num_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        act_cfg: dict | None = None,
        attn_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.cross_attn = DeformableAttention(channels, num_heads, **(attn_cfg or {}))
        self.linear1 = nn.Linear(channels, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.act = build_activation_layer(act_cfg or dict(type='ReLU'))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_boxes: Tensor,
        memory: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Updates the queries.

        Args:
            query: (N, Q, C).
            query_pos: Embedding of the reference boxes (N, Q, C).
            reference_boxes: (N, Q, 4), cx, cy, w, h, 0..1.
            memory: (N, sum(H_l * W_l), C).
            spatial_shapes: (H_l, W_l) of every level.
            attn_mask: (Q, Q), True where a query (row) must not see another (column).

        Returns:
            (N, Q, C).
        """
        q = query + query_pos
        attended = self.self_attn(q, q, value=query, attn_mask=attn_mask, need_weights=False)[0]
        query = self.norm1(query + self.dropout(attended))
        attended = self.cross_attn(query + query_pos, reference_boxes, memory, spatial_shapes)
        query = self.norm2(query + self.dropout(attended))
        hidden = query + self.dropout(self.linear2(self.dropout(self.act(self.linear1(query)))))
        # Half precision overflows here before it does anywhere else.
        return self.norm3(hidden.clamp(-65504, 65504))


class RTDETRDecoder(nn.Module):
    """A stack of decoder layers that refine boxes.

    Args:
        num_layers: Number of layers.
        eval_idx: Layer whose predictions are used in evaluation, where later ones do not run;
            negative counts from the last.
        **layer_cfg: Arguments of :class:`RTDETRDecoderLayer`.

    Raises:
        ValueError: If ``eval_idx`` names no layer.
    """

    def __init__(self, num_layers: int = 6, eval_idx: int = -1, **layer_cfg) -> None:
        super().__init__()
        if not -num_layers <= eval_idx < num_layers:
            raise ValueError(f'eval_idx={eval_idx} is out of range for {num_layers} layers.')
        self.eval_idx = eval_idx % num_layers
        self.layers = nn.ModuleList(RTDETRDecoderLayer(**layer_cfg) for _ in range(num_layers))

    def forward(
        self,
        query: Tensor,
        reference_logits: Tensor,
        memory: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        score_heads: Sequence[Callable[[Tensor], Tensor]],
        bbox_heads: Sequence[Callable[[Tensor], Tensor]],
        query_pos_head: Callable[[Tensor], Tensor],
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decodes the queries.

        Args:
            query: (N, Q, C).
            reference_logits: Initial boxes (N, Q, 4), before the sigmoid.
            memory: (N, sum(H_l * W_l), C).
            spatial_shapes: (H_l, W_l) of every level.
            score_heads: Of every layer, (N, Q, C) to logits (N, Q, classes).
            bbox_heads: Of every layer, (N, Q, C) to a step (N, Q, 4) in logit space.
            query_pos_head: (N, Q, 4) boxes to (N, Q, C).
            attn_mask: (Q, Q), True where a query must not see another.

        Returns:
            Class logits (L, N, Q, classes) and boxes (L, N, Q, 4), cx, cy, w, h, 0..1: of all
            layers in training, of layer ``eval_idx`` alone (L = 1) in evaluation.
        """
        logits, boxes = [], []
        reference = reference_logits.sigmoid()
        # The same boxes with their gradient: a layer's loss also trains the box of the layer
        # before it (look forward twice).
        undetached = reference
        for i, layer in enumerate(self.layers):
            query_pos = query_pos_head(reference.to(query.dtype))
            query = layer(query, query_pos, reference, memory, spatial_shapes, attn_mask)
            if self.training or i == self.eval_idx:
                logits.append(score_heads[i](query))
            step = bbox_heads[i](query)
            refined = (step + inverse_sigmoid(reference)).sigmoid()
            if self.training:
                twice = (step + inverse_sigmoid(undetached)).sigmoid() if i else refined
                boxes.append(twice)
                undetached, reference = refined, refined.detach()
            elif i == self.eval_idx:
                boxes.append(refined)
                break
            else:
                reference = refined
        return torch.stack(logits), torch.stack(boxes)
