"""RT-DETR's efficient hybrid encoder (https://arxiv.org/abs/2304.08069, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.conv_blocks import ConvNormAct, CSPRepLayer
from ..layers.deferred import Deferred
from ..layers.reparam import switch_to_deploy
from ..layers.transformer_encoder import TransformerEncoder


def _resize_like(x: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode='nearest')


def _join(high: Tensor, low: Tensor) -> Tensor:
    return torch.cat([_resize_like(high, low), low], dim=1)


@MODELS.register_module()
class RTDETRHybridEncoder(BaseModule):
    """AIFI on the deepest level, then CCFM: a top-down and a bottom-up path.

    Takes any number of levels, from high to low resolution. Sizes of neighbouring levels need not
    be exact doubles: maps are brought to their partner's size by nearest interpolation.

    Args:
        in_channels: Channels of every input level. RT-DETR fills it in from the backbone.
        out_channels: Channels of every output level.
        use_encoder_idx: Levels that pass through AIFI; negative indices count from the deepest.
        num_encoder_layers: Transformer layers of each AIFI; 0 for none.
        num_heads: Attention heads of AIFI.
        feedforward_channels: Hidden channels of AIFI's feed-forward network.
        dropout: Dropout probability in AIFI.
        temperature: Of AIFI's position embedding.
        expansion: Width of the fusion blocks, as a share of ``out_channels``.
        depth_mult: Multiplies the three RepVGG blocks of a fusion block.
        norm_cfg: Config of the normalisation layers.
        act_cfg: Config of the convolutions' activation.
        encoder_act_cfg: Config of AIFI's activation.
        deploy: Whether to build the fused form.
        init_cfg: mmengine's initialisation config. By default the layers keep PyTorch's
            initialisation, as the authors' do.

    Raises:
        ValueError: At the forward pass, if the levels do not have the channels of ``in_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        use_encoder_idx: Sequence[int] = (-1,),
        num_encoder_layers: int = 1,
        num_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        temperature: float = 10000.0,
        expansion: float = 1.0,
        depth_mult: float = 1.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        encoder_act_cfg: dict | None = None,
        deploy: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.deploy = deploy
        num_levels = len(self.in_channels)
        bad = [i for i in use_encoder_idx if not -num_levels <= i < num_levels]
        if bad:
            raise ValueError(
                f'use_encoder_idx={tuple(use_encoder_idx)}: {bad} out of range for {num_levels} '
                'levels.'
            )
        self.use_encoder_idx = tuple(i % num_levels for i in use_encoder_idx)
        cfg = dict(norm_cfg=norm_cfg, deploy=deploy)
        act_cfg = act_cfg or dict(type='SiLU', inplace=True)

        self.input_proj = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, **cfg) for channels in self.in_channels
        )
        self.encoder = nn.ModuleList(
            TransformerEncoder(
                num_encoder_layers,
                temperature,
                channels=out_channels,
                num_heads=num_heads,
                feedforward_channels=feedforward_channels,
                dropout=dropout,
                act_cfg=encoder_act_cfg,
            )
            for _ in self.use_encoder_idx
        )

        def fusion_block() -> CSPRepLayer:
            return CSPRepLayer(
                2 * out_channels,
                out_channels,
                round(3 * depth_mult),
                expansion,
                act_cfg=act_cfg,
                **cfg,
            )

        steps = range(num_levels - 1)
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 1, act_cfg=act_cfg, **cfg) for _ in steps
        )
        self.fpn_blocks = nn.ModuleList(fusion_block() for _ in steps)
        self.downsample_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, 2, act_cfg=act_cfg, **cfg) for _ in steps
        )
        self.pan_blocks = nn.ModuleList(fusion_block() for _ in steps)

    def switch_to_deploy(self) -> None:
        """Fuses every convolution with its normalisation and branches, in place."""
        for child in self.children():
            switch_to_deploy(child)
        self.deploy = True

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Mixes the levels.

        Args:
            inputs: Feature maps (N, in_channels[i], H_i, W_i), from high to low resolution.

        Returns:
            Feature maps (N, out_channels, H_i, W_i).
        """
        channels = tuple(x.shape[1] for x in inputs)
        if channels != self.in_channels:
            raise ValueError(
                f"the backbone's levels have {channels} channels, but the neck was built with "
                f"in_channels={self.in_channels}: leave in_channels out to take the backbone's."
            )
        feats = [proj(x) for proj, x in zip(self.input_proj, inputs)]
        for i, encoder in zip(self.use_encoder_idx, self.encoder):
            feats[i] = encoder(feats[i])

        # Top-down: inner[i] has mixed in everything deeper than level i.
        inner = [feats[-1]]
        for low, lateral, block in zip(feats[-2::-1], self.lateral_convs, self.fpn_blocks):
            inner[0] = high = lateral(inner[0])
            inner.insert(0, self._fuse(block, high, low))

        # Bottom-up.
        outs = [inner[0]]
        for high, down, block in zip(inner[1:], self.downsample_convs, self.pan_blocks):
            outs.append(self._fuse(block, down(outs[-1]), high))
        return tuple(outs)

    def _fuse(self, block: CSPRepLayer, high: Tensor, low: Tensor) -> Tensor:
        if self.training and not self.deploy:
            return block(Deferred(_join, [high, low]))
        return block(_join(high, low))
