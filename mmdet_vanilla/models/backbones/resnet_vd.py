"""ResNet-vd as RT-DETR uses it (PResNet in the authors' code)."""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones.resnet import BasicBlock, ResNetV1d
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import nn


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

    def switch_to_deploy(self) -> None:
        """Folds every normalisation into the convolution before it; no effect the second time."""
        if not self.deploy:
            fuse_conv_bn(self)
            self.deploy = True
