"""ResNet-vd as RT-DETR uses it (PResNet in the authors' code)."""

from __future__ import annotations

from collections.abc import Mapping

from mmcv.cnn import build_norm_layer
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNetV1d
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmdet_vanilla.utils.official_names import select_resnet_backbone

from ..layers.deferred import Deferred
from .authors import FromAuthors


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
class ResNetVd(FromAuthors, ResNetV1d):
    """mmdet's ``ResNetV1d`` with RT-DETR's shortcuts.

    RT-DETR's ResNet-18 and -34 also project the shortcut of the very first block, where mmdet's
    keep the identity. From ResNet-50 on, both compute the same.

    Args:
        depth: 18, 34, 50, 101 or 152.
        **kwargs: Other Arguments of ``ResNetV1d``. ``init_cfg=dict(type='Pretrained',
            checkpoint=...)`` also takes the files of RT-DETR's authors (path or URL), and
            ``'authors'`` for the one that they publish for this depth.

    Attributes:
        out_channels (tuple[int, ...]): Channels of every output.
        out_strides (tuple[int, ...]): Input pixels per output position of every output.
        deploy (bool): Whether the normalisation layers have been folded.
        authors_url (str | None): Address of the authors' ImageNet weights, if they have any for
            this depth.
        title (str): Name of the variant, for messages.
    """

    deploy = False
    # ImageNet weights that RT-DETR's authors start from, by depth. They publish no hashes.
    authors_files = {
        18: 'ResNet18_vd_pretrained_from_paddle.pth',
        34: 'ResNet34_vd_pretrained_from_paddle.pth',
        50: 'ResNet50_vd_ssld_v2_pretrained_from_paddle.pth',
        101: 'ResNet101_vd_ssld_pretrained_from_paddle.pth',
    }
    authors_folder = 'https://github.com/lyuwenyu/storage/releases/download/v0.1/'

    def __init__(self, depth: int, **kwargs) -> None:
        super().__init__(depth=depth, **kwargs)
        expansion = self.block.expansion
        self.out_channels = tuple(self.base_channels * 2**i * expansion for i in self.out_indices)
        strides = [4]
        for stride in self.strides:
            strides.append(strides[-1] * stride)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)
        self.title = f'ResNet-{depth}-vd'
        file = self.authors_files.get(depth)
        if self.base_channels != 64:
            self.title += f', base_channels={self.base_channels}'
            file = None
        self.authors_url = file and self.authors_folder + file

    def _select_weights(
        self, checkpoint: Mapping, prefix: str | None
    ) -> tuple[dict[str, Tensor], list[str]]:
        from mmdet_vanilla.utils.convert import is_foreign, rename_to_ours

        if is_foreign(checkpoint):  # a whole detector
            checkpoint = rename_to_ours(checkpoint)[1]
        return select_resnet_backbone(checkpoint, prefix)

    def _recognise(self, state: Mapping[str, Tensor]) -> str | None:
        names = [name.split('.') for name in state if name.startswith('layer')]
        stages = {name[0] for name in names}
        blocks = tuple(len({n[1] for n in names if n[0] == stage}) for stage in sorted(stages))
        kind = Bottleneck if 'layer1.0.conv3.weight' in state else BasicBlock
        for depth, variant in self.arch_settings.items():
            if variant == (kind, blocks):
                return f'ResNet-{depth}'
        return None

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
