"""ResNet-vd as RT-DETR uses it (PResNet in the authors' code)."""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNetV1d
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers.deferred import Deferred


def _defer(norm: nn.Module, relu: nn.Module, x: Tensor) -> Deferred:
    return Deferred(lambda x: relu(norm(x)), [x], [norm])


def _add_shortcut(block: nn.Module, out: Tensor, x: Tensor) -> Tensor:
    out += x if block.downsample is None else block.downsample(x)
    return block.relu(out)


class BasicBlockVd(BasicBlock):
    """mmdet's, which in training keeps no map between two convolutions twice."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H / stride, W / stride)."""
        if not self.training or self.with_cp:
            return super().forward(x)
        (out,) = _defer(self.norm1, self.relu, self.conv1(x)).then(self.conv2)
        return _add_shortcut(self, self.norm2(out), x)


class BottleneckVd(Bottleneck):
    """mmdet's, which in training keeps no map between two convolutions twice."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, 4 C, H / stride, W / stride)."""
        if not self.training or self.with_cp or self.with_plugins:
            return super().forward(x)
        (out,) = _defer(self.norm1, self.relu, self.conv1(x)).then(self.conv2)
        (out,) = _defer(self.norm2, self.relu, out).then(self.conv3)
        return _add_shortcut(self, self.norm3(out), x)


_BLOCKS = {BasicBlock: BasicBlockVd, Bottleneck: BottleneckVd}


@MODELS.register_module()
class ResNetVd(ResNetV1d):
    """mmdet's ``ResNetV1d`` with RT-DETR's shortcuts.

    RT-DETR's ResNet-18 and -34 also project the shortcut of the very first block, where mmdet's
    keep the identity. From ResNet-50 on, both compute the same.

    Args:
        depth: 18, 34, 50, 101 or 152.
        **kwargs: Other Arguments of ``ResNetV1d``.

    Attributes:
        out_channels (tuple[int, ...]): Channels of every output.
        out_strides (tuple[int, ...]): Input pixels per output position of every output.
        deploy (bool): Whether the normalisation layers have been folded.
    """

    deploy = False

    def __init__(self, depth: int, **kwargs) -> None:
        super().__init__(depth=depth, **kwargs)
        expansion = self.block.expansion
        self.out_channels = tuple(self.base_channels * 2**i * expansion for i in self.out_indices)
        strides = [4]
        for stride in self.strides:
            strides.append(strides[-1] * stride)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)

    def make_res_layer(self, **kwargs) -> ResLayer:
        """Builds a stage whose first block projects its shortcut."""
        # Not in arch_settings, by whose classes mmdet chooses the initialisation.
        kwargs['block'] = _BLOCKS[kwargs['block']]
        layer = super().make_res_layer(**kwargs)
        first = layer[0]
        if isinstance(first, BasicBlock) and first.downsample is None:
            channels = kwargs['planes']
            # The average pooling of mmdet's other projections has nothing to do at stride 1; its
            # place is kept so that names are alike.
            first.downsample = nn.Sequential(
                nn.Identity(),
                nn.Conv2d(kwargs['inplanes'], channels, 1, bias=False),
                build_norm_layer(kwargs['norm_cfg'], channels)[1],
            )
        return layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one feature map per output."""
        if not self.training or self.deploy:
            return super().forward(x)
        # Convolution, normalisation and ReLU three times, then the pooling.
        conv1, norm1, relu1, conv2, norm2, relu2, conv3, norm3, relu3 = self.stem
        (x,) = _defer(norm1, relu1, conv1(x)).then(conv2)
        (x,) = _defer(norm2, relu2, x).then(conv3)
        x = _defer(norm3, relu3, x).map(self.maxpool).value()
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def switch_to_deploy(self) -> None:
        """Folds every normalisation into the convolution before it; no effect the second time."""
        if not self.deploy:
            fuse_conv_bn(self)
            self.deploy = True
