"""Structural re-parameterisation: one mechanism for every module that has two forms.

A module is trained with several linear branches (convolution, batch normalisation, parallel
convolutions) and shipped as the single convolution that computes the same function. Each such
module states its algebra once, as a pure function from the tensors of its training form to the
tensors of its fused form. :class:`Reparameterizable` uses that one function both to fuse a live
module (:meth:`~Reparameterizable.switch_to_deploy`) and to load a training-form checkpoint into a
module that was built fused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]


def fold_bn(state: StateDict, conv: str, bn: str, eps: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch normalisation behind it folded in.

    With ``y = gamma * (W x + b - mean) / sqrt(var + eps) + beta``, the folded weight is
    ``gamma / sqrt(var + eps) * W`` and the bias ``beta + (b - mean) * gamma / sqrt(var + eps)``.

    Args:
        state: Tensors by name.
        conv: Prefix of the convolution, e.g. ``'conv1.0.'``: ``weight`` (out, in, kh, kw) and,
            if present, ``bias`` (out,).
        bn: Prefix of the normalisation: ``weight``, ``bias``, ``running_mean``, ``running_var``.
        eps: The normalisation's epsilon.

    Returns:
        Weight (out, in, kh, kw) and bias (out,), in the dtype of the given weight.

    Raises:
        ValueError: If the normalisation has no running statistics.
    """
    if f'{bn}weight' in state and f'{bn}running_mean' not in state:
        raise ValueError(
            f'{bn.rstrip(".")} keeps no running statistics, so it cannot be folded into a '
            'convolution: use batch normalisation (BN or SyncBN) in norm_cfg.'
        )
    weight = state[f'{conv}weight']
    mean, var = state[f'{bn}running_mean'], state[f'{bn}running_var']
    scale = state[f'{bn}weight'] / torch.sqrt(var + eps)
    bias = state.get(f'{conv}bias')
    shift = -mean if bias is None else bias - mean
    return weight * scale.reshape(-1, 1, 1, 1), state[f'{bn}bias'] + shift * scale


def memory_format_of(weight: Tensor) -> torch.memory_format:
    """The memory format that the strides of a 4-D weight spell out."""
    # is_contiguous() holds for both formats where a dimension has size 1; the strides tell.
    plain = torch.empty_like(weight, memory_format=torch.contiguous_format).stride()
    channels_last = torch.empty_like(weight, memory_format=torch.channels_last).stride()
    if weight.stride() == channels_last != plain:
        return torch.channels_last
    return torch.contiguous_format


class Reparameterizable(nn.Module):
    """Base of a module that has a training form and a fused form.

    A subclass

    * sets ``self.deploy`` and builds the matching layers in its constructor,
    * names in :attr:`training_layers` the direct children (or parameters) that the fused form does
      not have,
    * implements :meth:`_fuse_state` (the algebra) and :meth:`_build_deploy` (the layers of the
      fused form, with any values).

    Fusing is exact within rounding, idempotent, and leaves weights contiguous in the memory format
    of the weights they replace.
    """

    training_layers: tuple[str, ...] = ()
    deploy: bool = False

    def _fuse_state(self, state: StateDict) -> dict[str, Tensor]:
        """Tensors of the fused form from those of the training form; names without prefix."""
        raise NotImplementedError

    def _build_deploy(self) -> None:
        """Creates the layers of the fused form."""
        raise NotImplementedError

    def _owns(self, name: str) -> bool:
        """Whether a tensor, by its name below this module, belongs to the training form alone."""
        return name.split('.', 1)[0] in self.training_layers

    def _is_training_form(self, names: set[str]) -> bool:
        return any(self._owns(name) for name in names)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fuses this module and every module below it, in place; does nothing the second time."""
        if not self.deploy:
            self._check_fusible()
            own = self.state_dict(keep_vars=True)
            like = next(t for name, t in own.items() if t.dim() == 4)
            memory_format = memory_format_of(like)
            fused = self._fuse_state(own)
            for name in self.training_layers:
                if hasattr(self, name):
                    delattr(self, name)
            self._build_deploy()
            self.deploy = True
            for name, value in fused.items():
                parent, _, leaf = name.rpartition('.')
                if value.dim() == 4:
                    # The algebra can leave strides that make a backend choose slow kernels.
                    value = torch.empty_like(value, memory_format=memory_format).copy_(value)
                param = nn.Parameter(value, requires_grad=like.requires_grad)
                setattr(self.get_submodule(parent), leaf, param)
            self.train(self.training)
        for child in self.children():
            switch_to_deploy(child)

    def _check_fusible(self) -> None:
        """Raises an error if the module cannot be fused exactly in its present state."""

    def _convert_state(self, own: StateDict) -> tuple[Iterable[str], dict[str, Tensor]] | None:
        """Turns tensors of another form into tensors of the form that this module has.

        Args:
            own: Tensors of a checkpoint by their names below this module.

        Returns:
            Names that are replaced, and the tensors that replace them; ``None`` if nothing is to
            be done.
        """
        if self.deploy and self._is_training_form(set(own)):
            return filter(self._owns, own), self._fuse_state(own)
        return None

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        try:
            converted = self._convert_state(own)
        except KeyError:
            # Not all of it is there: torch reports what is missing and unexpected.
            converted = None
        if converted is not None:
            replaced, tensors = converted
            for name in replaced:
                del state_dict[prefix + name]
            for name, value in tensors.items():
                state_dict[prefix + name] = value
        super()._load_from_state_dict(state_dict, prefix, *args)


def switch_to_deploy(module: nn.Module) -> None:
    """Fuses every module at or below ``module`` that has a ``switch_to_deploy`` method.

    Args:
        module: Any module; changed in place.
    """
    method = getattr(module, 'switch_to_deploy', None)
    if callable(method):
        method()
        return
    for child in module.children():
        switch_to_deploy(child)
