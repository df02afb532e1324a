"""A pair of convolutions that can be merged into one, for good or only half way."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .reparam import Reparameterizable, StateDict, fold_bn, memory_format_of


def check_fusible(act_learn: float) -> None:
    """Checks that the activation inside a pair is the identity.

    Args:
        act_learn: Slope of the leaky ReLU inside the pair, 0..1.

    Raises:
        RuntimeError: If it is not 1.
    """
    if act_learn != 1.0:
        raise RuntimeError(
            f'cannot fuse at act_learn={act_learn}: the leaky ReLU between the two convolutions is '
            'linear only at 1. Finish deep training, or call set_act_learn(1.0) if the weights '
            'were trained with 1.'
        )


class ConvPair(Reparameterizable):
    """A module with a convolution-BN pair in a row: VanillaNet's stem and each of its blocks.

    It has three forms (paper section 3.1 knows the first and the last):

    * training: convolution, BN, leaky ReLU of slope ``act_learn``, 1x1 convolution, BN;
    * merged: one convolution, then the second BN. Trains at half the cost, and normalises as the
      training form does; exists once ``act_learn`` is 1. Below ``merged.0`` and ``merged.1``.
    * fused (``deploy``): one convolution with bias, for inference.

    A form loads checkpoints of those before it by converting them. A merged checkpoint does not
    load into the training form, since one convolution cannot be split into two again.

    A subclass names the two convolutions and their BNs.
    """

    first: tuple[str, str]  # convolution and BN below this module
    second: tuple[str, str]
    merged_layers = ('merged',)
    act_learn: float = 1.0
    is_merged: bool = False

    def _pair_layers(self) -> tuple[str, str, str, str]:
        return (*self.first, *self.second)

    def _belongs_to_pair(self, name: str) -> bool:
        return name.startswith(tuple(f'{layer}.' for layer in self._pair_layers()))

    def _check_fusible(self) -> None:
        check_fusible(self.act_learn)

    def _build_merged(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        self.merged = nn.Sequential(conv, norm)
        self.is_merged = True

    def _multiply(self, state: StateDict, eps: float) -> tuple[Tensor, Tensor]:
        """The first convolution with its BN, then the second convolution, as one convolution.

        ``W2 (W1 x + b1) + b2`` has weight ``W2 W1`` and bias ``W2 b1 + b2``.
        """
        weight1, bias1 = fold_bn(state, *(f'{name}.' for name in self.first), eps)
        mix = state[f'{self.second[0]}.weight'].flatten(1)
        weight = (mix @ weight1.flatten(1)).reshape(-1, *weight1.shape[1:])
        return weight, mix @ bias1 + state[f'{self.second[0]}.bias']

    def _merge_state(self, state: StateDict) -> dict[str, Tensor]:
        """Tensors of the merged form from those of the training form."""
        weight, bias = self._multiply(state, self.eps)
        merged = {'merged.0.weight': weight, 'merged.0.bias': bias}
        norm = f'{self.second[1]}.'
        for name, value in state.items():
            if name.startswith(norm):
                merged[f'merged.1.{name[len(norm) :]}'] = value
        return merged

    def _fuse_pair(self, state: StateDict) -> tuple[Tensor, Tensor]:
        """Weight and bias of the fused form from either of the other two."""
        if not any(name.startswith('merged.') for name in state):
            state = self._merge_state(state)
        return fold_bn(state, 'merged.0.', 'merged.1.', self.eps)

    @torch.no_grad()
    def merge_pair(self) -> dict[nn.Parameter, nn.Parameter | None]:
        """Turns the training form into the merged form, in place. Exact in evaluation mode.

        Returns:
            For every parameter that is gone, the parameter that takes its place (of the second
            convolution) or ``None`` (of the first convolution and its BN). Empty if the pair was
            merged already.

        Raises:
            RuntimeError: If ``act_learn`` is not 1, or the module is fused.
        """
        if self.is_merged:
            return {}
        if self.deploy:
            raise RuntimeError('cannot merge a fused model: its pairs are single convolutions.')
        self._check_fusible()
        weight, bias = self._multiply(self.state_dict(keep_vars=True), self.eps)
        (conv1, norm1), (conv2, norm2) = (
            [self.get_submodule(name) for name in names] for names in (self.first, self.second)
        )
        conv = nn.Conv2d(
            conv1.in_channels, conv2.out_channels, conv1.kernel_size, conv1.stride, conv1.padding
        ).to(weight)
        conv.to(memory_format=memory_format_of(conv1.weight))
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
        conv.requires_grad_(conv2.weight.requires_grad)
        for name in self._pair_layers():
            parent, _, leaf = name.rpartition('.')
            delattr(self.get_submodule(parent), leaf)
            if not len(self.get_submodule(parent)):
                delattr(self, parent)
        self._build_merged(conv, norm2)
        self.train(self.training)
        replaced = dict.fromkeys([*conv1.parameters(), *norm1.parameters()])
        return {**replaced, conv2.weight: conv.weight, conv2.bias: conv.bias}

    def _convert_state(self, own: StateDict) -> tuple[Iterable[str], dict[str, Tensor]] | None:
        if not self.deploy:
            has_pair = any(map(self._belongs_to_pair, own))
            if self.is_merged and has_pair:
                return filter(self._belongs_to_pair, own), self._merge_state(own)
            if not self.is_merged and any(name.startswith('merged.') for name in own):
                raise RuntimeError(
                    'these weights are of the merged form, in which every pair of convolutions is '
                    'one; they cannot be split again. Build the backbone with merged=True '
                    '(--cfg-options model.backbone.merged=True) to load them.'
                )
        return super()._convert_state(own)
