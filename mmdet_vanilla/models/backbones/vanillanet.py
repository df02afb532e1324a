"""VanillaNet: the Power of Minimalism in Deep Learning (https://arxiv.org/abs/2305.12972).

Parameter names are those of the authors' checkpoints, in the training form and in the fused form.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_vanilla.utils.weights import WeightsError, select_vanillanet_backbone

from ..layers.conv_pair import ConvPair, check_fusible
from ..layers.deferred import Deferred
from ..layers.reparam import Reparameterizable, StateDict, fold_bn
from .authors import FromAuthors


def _check_act_learn(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f'act_learn={value!r} is outside 0..1: it is the slope of the leaky ReLU between the '
            'two 1x1 convolutions, 0 for a full ReLU and 1 for none (paper section 3.1).'
        )
    return float(value)


class SeriesActivation(Reparameterizable):
    """Series-informed activation (paper section 3.2).

    ReLU, then a depthwise (2n+1) x (2n+1) convolution that mixes each position's activations with
    those of its neighbours, then batch normalisation.

    Args:
        channels: Number of channels.
        act_num: The paper's n, >= 0.
        norm_cfg: Config of the normalisation layer.
        deploy: Whether to build the fused form.
    """

    training_layers = ('bn',)

    def __init__(self, channels: int, act_num: int, norm_cfg: dict, deploy: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.act_num = act_num
        self.eps = norm_cfg.get('eps', 1e-5)
        self.deploy = deploy
        kernel_size = 2 * act_num + 1
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size, kernel_size))
        nn.init.trunc_normal_(self.weight, std=0.02)
        if deploy:
            self._build_deploy()
        else:
            self.bn = build_norm_layer(norm_cfg, channels)[1]

    def _build_deploy(self) -> None:
        self.bias = nn.Parameter(torch.zeros(self.channels))

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        weight, bias = fold_bn(state, '', 'bn.', self.eps)
        return dict(weight=weight, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.convolve(x)
        return x if self.deploy else self.bn(x)

    def convolve(self, x: Tensor) -> Tensor:
        """The same without the normalisation."""
        bias = self.bias if self.deploy else None
        return F.conv2d(F.relu(x), self.weight, bias, padding=self.act_num, groups=self.channels)


class AdaptiveHalfPool2d(nn.Module):
    """Adaptive max pooling to half the input's size, rounded up.

    An odd side of 2m - 1 is covered by windows of 3 that overlap and reach over the border, which
    is what adaptive pooling comes to there; written like this, it can be exported.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
        odd = [int(side) % 2 for side in x.shape[-2:]]
        return F.max_pool2d(x, [2 + n for n in odd], stride=2, padding=odd)


def _conv1x1_norm(in_channels: int, out_channels: int, norm_cfg: dict) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1), build_norm_layer(norm_cfg, out_channels)[1]
    )


class VanillaBlock(ConvPair):
    """One layer of VanillaNet: two 1x1 convolutions, pooling, series activation.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the max pooling; 1 for no pooling.
        act_num: The series activation's n.
        norm_cfg: Config of the normalisation layers.
        ada_pool: Whether to pool to half the size rounded up instead of by ``stride``.
        act_learn: Slope of the leaky ReLU between the two convolutions.
        merged: Whether to build the merged form (:class:`ConvPair`).
        deploy: Whether to build the fused form.
    """

    training_layers = ('conv1', 'conv2', 'merged')
    first, second = ('conv1.0', 'conv1.1'), ('conv2.0', 'conv2.1')

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        act_num: int,
        norm_cfg: dict,
        ada_pool: bool = False,
        act_learn: float = 1.0,
        merged: bool = False,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.eps = norm_cfg.get('eps', 1e-5)
        self.act_learn = act_learn
        self.deploy = deploy
        if deploy:
            self._build_deploy()
        elif merged:
            self._build_merged(*_conv1x1_norm(in_channels, out_channels, norm_cfg))
        else:
            self.conv1 = _conv1x1_norm(in_channels, in_channels, norm_cfg)
            self.conv2 = _conv1x1_norm(in_channels, out_channels, norm_cfg)
        if stride == 1:
            self.pool = nn.Identity()
        else:
            self.pool = AdaptiveHalfPool2d() if ada_pool else nn.MaxPool2d(stride)
        self.act = SeriesActivation(out_channels, act_num, norm_cfg, deploy)

    def _build_deploy(self) -> None:
        self.conv = nn.Conv2d(self.in_channels, self.out_channels, 1)

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        weight, bias = self._fuse_pair(state)
        return {'conv.weight': weight, 'conv.bias': bias}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H // stride, W // stride)."""
        if self.deploy:
            return self.act(self.pool(self.conv(x)))
        if self.is_merged:
            conv, norm = self.merged
            x = conv(x)
        else:
            conv, norm = self.conv2
            x = _convolve_twice(self.conv1, conv, self.act_learn, x)
        (x,) = Deferred(lambda x: self.pool(norm(x)), [x], [norm]).then(self.act.convolve)
        return self.act.bn(x)


def _leaky(x: Tensor, act_learn: float) -> Tensor:
    # At slope 1 the leaky ReLU is the identity; skipping it saves a copy of the feature map.
    return x if act_learn == 1.0 else F.leaky_relu(x, act_learn)


def _convolve_twice(first: nn.Sequential, second: nn.Module, act_learn: float, x: Tensor) -> Tensor:
    """Convolution and normalisation, leaky ReLU, the second convolution."""
    conv, norm = first
    return Deferred(lambda x: _leaky(norm(x), act_learn), [conv(x)], [norm]).then(second)[0]


def _arch(depth_2048: int, base: int = 512) -> dict:
    """VanillaNet-7 to -13: ``depth_2048`` blocks at stride 16."""
    dims = [base, base, 2 * base, *[4 * base] * depth_2048, 8 * base, 8 * base]
    return dict(dims=dims, strides=[1, 2, 2, *[1] * (depth_2048 - 1), 2, 1])


@MODELS.register_module()
class VanillaNet(FromAuthors, BaseModule, ConvPair):
    """VanillaNet backbone.

    A stem (4x4 convolution of stride 4) and a plain chain of blocks without shortcuts, each a pair
    of 1x1 convolutions, a max pooling and a series activation. For inference
    :meth:`switch_to_deploy` merges every pair into one convolution.

    Args:
        arch: Name in :attr:`arch_zoo` (``'6'``, ``6`` or ``'vanillanet_6'``), or a dict with
            ``dims`` (channels of the stem and of every block), ``strides`` (one per block, 1 or 2)
            and optionally ``ada_pool`` (stem of stride 3 and pooling to half the size rounded up).
        widen_factor: Multiplies every width.
        in_channels: Channels of the image.
        act_num: The paper's n: the series activation's kernel is (2n+1) x (2n+1). 3 in the
            ImageNet weights, 4 in the authors' detection weights.
        out_indices: Blocks whose outputs are returned, 0-based, negative from the end. By default
            the last block at each of the three deepest strides (8, 16 and 32).
        out_stem: Whether the stem's output (stride 4) comes first.
        norm_cfg: Config of the normalisation layers, BN or SyncBN.
        frozen_stages: 0 freezes the stem, k > 0 also the first k blocks, -1 nothing.
        norm_eval: Whether normalisation layers keep their statistics during training.
        with_cp: Whether to recompute activations in the backward pass to save memory. As in mmdet,
            running statistics are then updated twice a step unless ``norm_eval``.
        act_learn: Slope of the leaky ReLU inside the pairs of convolutions (the paper's lambda),
            0..1; pre-trained weights want 1. See :meth:`set_act_learn`.
        merged: Whether to build the merged form, one convolution and one BN for every pair. It
            trains at half the cost and loads weights of the training form by merging them. See
            :meth:`merge_pairs`.
        deploy: Whether to build the fused form. It loads fused weights, and weights of the training
            form by fusing them.
        init_cfg: mmengine's initialisation config. ``dict(type='Pretrained', checkpoint=...)``
            accepts the authors' classification checkpoints (path, URL, or ``'authors'`` for the one
            that they publish for this ``arch`` and ``act_num``) and leaves their classifier out.

    Attributes:
        out_channels (tuple[int, ...]): Channels of every output.
        out_strides (tuple[int, ...]): Input pixels per output position of every output.
        authors_url (str | None): Address of the authors' ImageNet weights, if they have any for
            this ``arch`` and ``act_num``.
        title (str): Name of the variant, for messages.

    Raises:
        ValueError: For an unknown ``arch``, widths and strides that do not fit each other, indices
            out of range, or ``act_learn`` outside 0..1.

    Example:
        >>> import torch
        >>> from mmdet_vanilla.models import VanillaNet
        >>> model = VanillaNet('5', widen_factor=1 / 16).eval()
        >>> model.out_channels, model.out_strides
        ((64, 128, 256), (8, 16, 32))
        >>> [tuple(x.shape) for x in model(torch.rand(1, 3, 64, 96))]
        [(1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
        >>> model.switch_to_deploy()
        >>> model.stages[0].conv
        Conv2d(32, 64, kernel_size=(1, 1), stride=(1, 1))
    """

    arch_zoo = {
        '5': dict(dims=[512, 1024, 2048, 4096], strides=[2, 2, 2]),
        '6': dict(dims=[512, 1024, 2048, 4096, 4096], strides=[2, 2, 2, 1]),
        **{str(depth): _arch(depth - 6) for depth in range(7, 14)},
        '13_x1_5': _arch(7, base=768),
        '13_x1_5_ada_pool': dict(_arch(7, base=768), ada_pool=True),
    }
    # The authors' ImageNet weights, by arch and act_num. They publish no hashes.
    authors_files = {
        **{(arch, 3): f'vanillanet_{arch}.pth' for arch in arch_zoo},
        ('13', 4): 'vanillanet_13_act_num_4_kd_pretrain.pth',
    }
    authors_folder = 'https://github.com/huawei-noah/VanillaNet/releases/download/ckpt/'

    training_layers = ('stem1', 'stem2', 'merged')
    first, second = ('stem1.0', 'stem1.1'), ('stem2.0', 'stem2.1')

    def __init__(
        self,
        arch: str | int | Mapping = '6',
        widen_factor: float = 1.0,
        in_channels: int = 3,
        act_num: int = 3,
        out_indices: Sequence[int] | None = None,
        out_stem: bool = False,
        norm_cfg: Mapping | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        act_learn: float = 1.0,
        merged: bool = False,
        deploy: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type='TruncNormal', layer='Conv2d', std=0.02)
        super().__init__(init_cfg)
        dims, strides, ada_pool = self._parse_arch(arch, widen_factor)
        norm_cfg = dict(norm_cfg or dict(type='BN', eps=1e-6))
        depth = len(strides)
        if act_num < 0:
            raise ValueError(f'act_num={act_num}: expected 0 or more (the paper has 3).')

        self.in_channels = in_channels
        self.stem_channels = dims[0]
        self.stem_stride, self.stem_padding = (3, 1) if ada_pool else (4, 0)
        self.eps = norm_cfg.get('eps', 1e-5)
        self.act_num = act_num
        self.norm_cfg = norm_cfg
        self.out_stem = out_stem
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.act_learn = _check_act_learn(act_learn)
        self.deploy = deploy
        if deploy or merged:
            check_fusible(self.act_learn)
        if not -1 <= frozen_stages <= depth:
            raise ValueError(
                f'frozen_stages={frozen_stages} is outside -1..{depth} (this arch has {depth} '
                'blocks; 0 freezes the stem alone, -1 nothing).'
            )
        self.frozen_stages = frozen_stages

        if deploy:
            self._build_deploy()
        else:
            stem1 = nn.Sequential(self._stem_conv(), build_norm_layer(norm_cfg, dims[0])[1])
            self.stem2 = nn.Sequential(
                *_conv1x1_norm(dims[0], dims[0], norm_cfg),
                SeriesActivation(dims[0], act_num, norm_cfg),
            )
            if merged:
                # The activation keeps its name behind the pair.
                for name in ('0', '1'):
                    delattr(self.stem2, name)
                self._build_merged(*stem1)
            else:
                self.stem1 = stem1
        self.stages = nn.ModuleList(
            VanillaBlock(
                dims[i],
                dims[i + 1],
                strides[i],
                act_num,
                norm_cfg,
                ada_pool=ada_pool,
                act_learn=act_learn,
                merged=merged,
                deploy=deploy,
            )
            for i in range(depth)
        )

        cumulative = [self.stem_stride * math.prod(strides[: i + 1]) for i in range(depth)]
        self.out_indices = self._parse_out_indices(out_indices, cumulative)
        if not (self.out_indices or out_stem):
            raise ValueError('out_indices=() without out_stem: the backbone would return nothing.')
        # Blocks behind the last output keep their names for checkpoints, but never run.
        self.num_used = max(self.out_indices, default=-1) + 1
        self.unused.requires_grad_(False)
        self.total_stride = [self.stem_stride, *cumulative][self.num_used]
        self.out_channels = tuple(dims[i + 1] for i in self.out_indices)
        self.out_strides = tuple(cumulative[i] for i in self.out_indices)
        if out_stem:
            self.out_channels = (dims[0], *self.out_channels)
            self.out_strides = (self.stem_stride, *self.out_strides)
        self._freeze_stages()
        self.title, self.authors_url = self._name(arch, widen_factor)

    @property
    def unused(self) -> nn.ModuleList:
        """Blocks that never run: those behind the last output."""
        return self.stages[self.num_used :]

    def _name(self, arch: str | int | Mapping, widen_factor: float) -> tuple[str, str | None]:
        """Name of the variant, and address of the authors' weights."""
        name = None if isinstance(arch, Mapping) else str(arch).removeprefix('vanillanet_')
        title = f'VanillaNet-{name}' if name else 'a VanillaNet of dims of its own'
        file = self.authors_files.get((name, self.act_num))
        for key, value, published in (
            ('widen_factor', widen_factor, 1),
            ('act_num', self.act_num, 3),
            ('in_channels', self.in_channels, 3),
        ):
            if value != published:
                title += f', {key}={value:g}'
                file = file if key == 'act_num' else None
        return title, file and self.authors_folder + file

    @classmethod
    def _parse_arch(
        cls, arch: str | int | Mapping, widen_factor: float
    ) -> tuple[list[int], list[int], bool]:
        if not isinstance(arch, Mapping):
            name = str(arch).removeprefix('vanillanet_')
            if name not in cls.arch_zoo:
                raise ValueError(
                    f'unknown arch {arch!r}: expected one of {", ".join(cls.arch_zoo)}, or a dict '
                    'with "dims" and "strides".'
                )
            arch = cls.arch_zoo[name]
        unknown = set(arch) - {'dims', 'strides', 'ada_pool'}
        missing = {'dims', 'strides'} - set(arch)
        if unknown or missing:
            raise ValueError(
                f'an arch dict has the keys "dims", "strides" and optionally "ada_pool"; '
                f'missing: {sorted(missing)}, unknown: {sorted(unknown)}.'
            )
        dims, strides = list(arch['dims']), list(arch['strides'])
        if not strides or len(dims) != len(strides) + 1:
            raise ValueError(
                f'{len(dims)} dims and {len(strides)} strides do not fit: "dims" holds the stem '
                'and every block, "strides" every block, so one less.'
            )
        if any(stride not in (1, 2) for stride in strides):
            raise ValueError(f'strides={strides}: every block has stride 1 or 2.')
        widths = [round(dim * widen_factor) for dim in dims]
        if min(widths) < 1:
            raise ValueError(
                f'widen_factor={widen_factor} on dims {dims} gives the widths {widths}: every '
                f'width must be at least 1, so use a factor of at least {1 / min(dims):.3g}.'
            )
        return widths, strides, bool(arch.get('ada_pool', False))

    @staticmethod
    def _parse_out_indices(
        out_indices: Sequence[int] | None, cumulative: list[int]
    ) -> tuple[int, ...]:
        depth = len(cumulative)
        if out_indices is None:
            last_at_stride = {stride: i for i, stride in enumerate(cumulative)}
            return tuple(last_at_stride.values())[-3:]
        bad = [i for i in out_indices if not -depth <= i < depth]
        if bad:
            raise ValueError(
                f'out_indices={tuple(out_indices)}: {bad} out of range for an arch of {depth} '
                f'blocks, expected {-depth}..{depth - 1}.'
            )
        indices = tuple(i % depth for i in out_indices)
        if list(indices) != sorted(set(indices)):
            raise ValueError(
                f'out_indices={tuple(out_indices)} name the blocks {indices}: expected each block '
                'once, in ascending order.'
            )
        return indices

    def _stem_conv(self) -> nn.Conv2d:
        return nn.Conv2d(
            self.in_channels, self.stem_channels, 4, self.stem_stride, self.stem_padding
        )

    def _build_deploy(self) -> None:
        act = SeriesActivation(self.stem_channels, self.act_num, self.norm_cfg, deploy=True)
        self.stem = nn.Sequential(self._stem_conv(), act)

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        weight, bias = self._fuse_pair(state)
        fused = {'stem.0.weight': weight, 'stem.0.bias': bias}
        fused['stem.1.weight'], fused['stem.1.bias'] = fold_bn(
            state, 'stem2.2.', 'stem2.2.bn.', self.eps
        )
        return fused

    def set_act_learn(self, value: float) -> None:
        """Sets the slope of the leaky ReLU inside every pair of convolutions.

        Args:
            value: The paper's lambda, 0 (ReLU, a deeper network) to 1 (identity, fusible).

        Raises:
            ValueError: If ``value`` is outside 0..1.
            RuntimeError: If the model is merged or fused, where no activation is left, and
                ``value`` != 1.
        """
        value = _check_act_learn(value)
        if (self.deploy or self.is_merged) and value != 1.0:
            raise RuntimeError(
                f'cannot set act_learn={value} on a merged or fused model: its pairs of '
                'convolutions are one. Build it with deploy=False, merged=False and load a '
                'training-form checkpoint.'
            )
        self.act_learn = value
        for block in self.stages:
            block.act_learn = value

    def get_layer_depth(self, param_name: str, prefix: str = 'backbone.') -> tuple[int, int]:
        """Numbers the layers for learning rates that fall towards the input.

        As the authors number them for detection: the stem is 0, blocks 2k and 2k + 1 are k + 1.

        Args:
            param_name: Name of a parameter, in any form of the model.
            prefix: What stands in the name before the backbone's own; ``''`` for nothing.

        Returns:
            The layer of the parameter, 0-based, and the number of layers; everything behind the
            backbone is one more.

        Raises:
            ValueError: If the name does not begin with the prefix.
        """
        if not param_name.startswith(prefix):
            raise ValueError(f'{param_name!r} is not in the backbone: expected {prefix!r}...')
        num_layers = (len(self.stages) - 1) // 2 + 3
        group, _, rest = param_name[len(prefix) :].partition('.')
        return (int(rest.split('.')[0]) // 2 + 1 if group == 'stages' else 0), num_layers

    def merge_pairs(self) -> dict[nn.Parameter, nn.Parameter | None]:
        """Merges every pair of convolutions into one and keeps the model trainable, in place.

        Outputs in evaluation mode stay the same within rounding. Used by ``DeepTrainingHook``
        once ``act_learn`` has reached 1.

        Returns:
            For every parameter that is gone, the parameter that takes its place or ``None``, for
            the optimizer.

        Raises:
            RuntimeError: If ``act_learn`` is not 1, or the model is fused.
        """
        replaced = self.merge_pair()
        for block in self.stages:
            replaced.update(block.merge_pair())
        return replaced

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # Checkpoints made in the middle of deep training say so (DeepTrainingHook).
        act_learn = state_dict.pop(f'{prefix}act_learn', None)
        if act_learn is not None:
            act_learn = float(act_learn)
            if self.deploy or self.is_merged:
                check_fusible(act_learn)
            self.set_act_learn(act_learn)
            print_log(
                f'VanillaNet: these weights were saved at act_learn={act_learn:.3g}, in the middle '
                'of deep training; they are used at that value and cannot be fused yet.',
                logger='current',
                level=logging.WARNING,
            )
        elif self.act_learn < 1.0:
            print_log(
                f'VanillaNet: these weights name no act_learn, so they were trained to 1; the '
                f'model stays at act_learn={self.act_learn:.3g}, where it computes something else.',
                logger='current',
                level=logging.WARNING,
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        stem = (getattr(self, name, None) for name in ('stem', 'merged', 'stem1', 'stem2'))
        for module in (*filter(None, stem), *self.stages[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> VanillaNet:
        """Sets the mode; frozen parts, and with ``norm_eval`` all norms, stay in eval."""
        super().train(mode)
        if mode:
            self._freeze_stages()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def _select_weights(
        self, checkpoint: Mapping, prefix: str | None
    ) -> tuple[dict[str, Tensor], list[str]]:
        return select_vanillanet_backbone(checkpoint, prefix)

    def _recognise(self, state: Mapping[str, Tensor]) -> str | None:
        from mmdet_vanilla.utils.convert import convert

        try:
            arch = convert(state).arch
        except WeightsError:
            return None
        return None if arch is None else f'VanillaNet-{arch}'

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the feature maps.

        Args:
            x: Images (N, in_channels, H, W), H and W at least the total stride.

        Returns:
            One feature map (N, out_channels[i], H / out_strides[i], W / out_strides[i]) per
            output, sizes rounded down (``ada_pool``: up).

        Raises:
            ValueError: If an image is smaller than one position of the last feature map.
        """
        if not torch.jit.is_tracing() and min(x.shape[-2:]) < self.total_stride:
            raise ValueError(
                f'input of {x.shape[-2]}x{x.shape[-1]} pixels (height x width) is smaller than '
                f'the stride {self.total_stride} of the backbone: resize or pad the images.'
            )
        if self.deploy:
            x = self.stem(x)
        elif self.is_merged:
            x = self.stem2(self.merged(x))
        else:
            conv, norm, act = self.stem2
            x = _convolve_twice(self.stem1, conv, self.act_learn, x)
            (x,) = Deferred(norm, [x], [norm]).then(act.convolve)
            x = act.bn(x)
        outs = [x] if self.out_stem else []
        for i, block in enumerate(self.stages[: self.num_used]):
            if self.with_cp and self.training and x.requires_grad:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)
