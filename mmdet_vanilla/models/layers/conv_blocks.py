"""Convolution blocks of RT-DETR's hybrid encoder (https://arxiv.org/abs/2304.08069, 4.2)."""

from __future__ import annotations

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn

from .deferred import Deferred
from .reparam import Reparameterizable, StateDict, fold_bn


class ConvNormAct(Reparameterizable):
    """Convolution without bias, batch normalisation and, if given, an activation.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel; the padding keeps the size at stride 1.
        stride: Stride of the convolution.
        norm_cfg: Config of the normalisation layer.
        act_cfg: Config of the activation, None for none.
        deploy: Whether to build the fused form, a convolution with bias.
    """

    training_layers = ('norm',)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        self.eps = norm_cfg.get('eps', 1e-5)
        self.deploy = deploy
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, bias=deploy
        )
        if not deploy:
            self.norm = build_norm_layer(norm_cfg, out_channels)[1]
        self.act = build_activation_layer(act_cfg) if act_cfg else nn.Identity()

    def _build_deploy(self) -> None:
        conv = self.conv
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        )

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        weight, bias = fold_bn(state, 'conv.', 'norm.', self.eps)
        return {'conv.weight': weight, 'conv.bias': bias}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.training and not self.deploy:
            return self.defer(self.conv(x)).value()
        return self._finish(self.conv(x))

    def _finish(self, x: Tensor) -> Tensor:
        return self.act(x if self.deploy else self.norm(x))

    def defer(self, x: Tensor) -> Deferred:
        """What is left to do with the convolution's output, of the training form."""
        return Deferred(self._finish, [x], [self.norm])


class RepVGGBlock(Reparameterizable):
    """Parallel 3x3 and 1x1 convolutions, each with its normalisation, summed and activated.

    Fused, it is one 3x3 convolution.

    Args:
        channels: Channels of the input and the output.
        norm_cfg: Config of the normalisation layers.
        act_cfg: Config of the activation.
        deploy: Whether to build the fused form.
    """

    training_layers = ('conv1', 'conv2')

    def __init__(
        self,
        channels: int,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.eps = (norm_cfg or {}).get('eps', 1e-5)
        self.deploy = deploy
        if deploy:
            self._build_deploy()
        else:
            self.conv1 = ConvNormAct(channels, channels, 3, norm_cfg=norm_cfg)
            self.conv2 = ConvNormAct(channels, channels, 1, norm_cfg=norm_cfg)
        self.act = build_activation_layer(act_cfg) if act_cfg else nn.Identity()

    def _build_deploy(self) -> None:
        self.conv = nn.Conv2d(self.channels, self.channels, 3, padding=1)

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        weight3, bias3 = fold_bn(state, 'conv1.conv.', 'conv1.norm.', self.eps)
        weight1, bias1 = fold_bn(state, 'conv2.conv.', 'conv2.norm.', self.eps)
        # A 1x1 kernel is a 3x3 kernel that is zero but for its centre.
        weight = weight3 + nn.functional.pad(weight1, [1, 1, 1, 1])
        return {'conv.weight': weight, 'conv.bias': bias3 + bias1}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.act(self.conv(x) if self.deploy else self.conv1(x) + self.conv2(x))

    def defer(self, x: Deferred) -> Deferred:
        """The same in the training form, without keeping input and output."""
        small, large = x.then(self.conv2.conv, self.conv1.conv)
        branches = self.conv1.defer(large), self.conv2.defer(small)
        return branches[0].map(lambda a, b: self.act(a + b), branches[1])


class CSPRepLayer(nn.Module):
    """Fusion block of CCFM: a 1x1 path through RepVGG blocks plus a plain 1x1 path.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        num_blocks: Number of RepVGG blocks.
        expansion: Width of both paths, as a share of ``out_channels``.
        norm_cfg: Config of the normalisation layers.
        act_cfg: Config of the activations.
        deploy: Whether to build the fused form.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 3,
        expansion: float = 1.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        cfg = dict(norm_cfg=norm_cfg, act_cfg=act_cfg, deploy=deploy)
        self.conv1 = ConvNormAct(in_channels, hidden, 1, **cfg)
        self.conv2 = ConvNormAct(in_channels, hidden, 1, **cfg)
        self.bottlenecks = nn.Sequential(*(RepVGGBlock(hidden, **cfg) for _ in range(num_blocks)))
        if hidden == out_channels:
            self.conv3 = nn.Identity()
        else:
            self.conv3 = ConvNormAct(hidden, out_channels, 1, **cfg)

    def forward(self, x: Tensor | Deferred) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H, W)."""
        if isinstance(x, Deferred):
            return self._forward_deferred(x)
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))

    def _forward_deferred(self, x: Deferred) -> Tensor:
        """The same in the training form, without keeping what lies between the convolutions."""
        # Apart, so that only what is cheap runs again.
        (long,), (short,) = x.then(self.conv1.conv), x.then(self.conv2.conv)
        path = self.conv1.defer(long)
        for block in self.bottlenecks:
            path = block.defer(path)
        mixed = path.map(torch.add, self.conv2.defer(short))
        if isinstance(self.conv3, nn.Identity):
            return mixed.value()
        return self.conv3.defer(*mixed.then(self.conv3.conv)).value()
