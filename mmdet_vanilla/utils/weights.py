"""Foreign weight files: what is in them, and which part belongs to which module of ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .errors import UserError


class WeightsError(UserError, ValueError):
    """Weights are missing, not recognised, or belong to another model."""


# Where the authors' training codes keep the weights, in the order of preference (EMA first).
_WEIGHT_KEYS = (('ema', 'module'), ('model_ema',), ('state_dict',), ('model',))


def unwrap_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """The state dict inside a checkpoint.

    Args:
        checkpoint: Contents of a checkpoint file: a state dict, or a dict that holds one under
            ``ema.module`` (RT-DETR), ``model_ema`` (VanillaNet), ``state_dict`` (mmengine) or
            ``model``.

    Returns:
        Tensors by name.

    Raises:
        WeightsError: If there is no state dict in it.
    """
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(
            f'no state dict found: expected a dict, got a {type(checkpoint).__name__}.'
        )
    for path in _WEIGHT_KEYS:
        found = checkpoint
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping) and found:
            checkpoint = found
            break
    state = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state or len(state) != len(checkpoint):
        raise WeightsError(
            f'no state dict found: expected tensors by name, at the top level or under '
            f'{", ".join(".".join(path) for path in _WEIGHT_KEYS)}; '
            f'got the keys {", ".join(map(str, list(checkpoint)[:8]))}.'
        )
    if all(name.startswith('module.') for name in state):  # of a distributed model
        state = {name.removeprefix('module.'): tensor for name, tensor in state.items()}
    return state


def meta_of(checkpoint: Mapping) -> Mapping:
    """What a checkpoint says about itself: its ``meta``, empty where it has none."""
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Checks weights that are about to be used for detecting.

    Args:
        state: Tensors by name.
        source: Where they come from, for the message.

    Raises:
        WeightsError: If a number in them is NaN or infinite.
    """
    broken = [
        f'{name} ({int((~tensor.isfinite()).sum())} of {tensor.numel()})'
        for name, tensor in state.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise WeightsError(
            f'{source} holds numbers that are NaN or infinite: {_shorten(broken)}. Such a model '
            'detects nothing: its training has failed, or the file is damaged. Use an earlier '
            'checkpoint.'
        )


def select_backbone(checkpoint: Mapping, prefix: str | None = None) -> dict[str, Tensor]:
    """The backbone's part of a checkpoint of a classifier or a detector.

    Args:
        checkpoint: Contents of the checkpoint, or a state dict.
        prefix: Prefix of the backbone's names; by default ``'backbone.'`` if any name has it.

    Returns:
        Tensors by name, without prefix.
    """
    state = unwrap_state_dict(checkpoint)
    if prefix is None:
        prefix = 'backbone.' if any(name.startswith('backbone.') for name in state) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def select_vanillanet_backbone(
    checkpoint: Mapping, prefix: str | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """The backbone's part of a VanillaNet checkpoint.

    Args:
        checkpoint: Contents of one of the authors' classification checkpoints, of a detector of
            ours, or a state dict of the backbone.
        prefix: See :func:`select_backbone`.

    Returns:
        The backbone's tensors, without prefix, and the names of the classifier's tensors
        (``cls*``), which were left out.
    """
    state = select_backbone(checkpoint, prefix)
    dropped = [name for name in state if name.split('.')[0] in ('cls', 'cls1', 'cls2')]
    return {k: v for k, v in state.items() if k not in dropped}, dropped


def check_weights(
    model: nn.Module, state: Mapping[str, Tensor], source: str, least_share: float = 1.0
) -> list[str]:
    """Loads what fits and checks that it is enough.

    Args:
        model: The model; fused parts that load their training form take weights of it.
        state: Tensors by name.
        source: Where they come from, for the message.
        least_share: Share of the model's tensors that must be found with their shape, 0..1. At 1,
            ``state`` must not hold anything else either.

    Returns:
        Names of the model's tensors that the weights do not fill.

    Raises:
        WeightsError: If fewer fit. The message lists what is missing, unexpected or of another
            shape.
    """
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fitting = {k: v for k, v in state.items() if k not in own or own[k] == v.shape}
    mismatched = sorted(set(state) - set(fitting))
    result = model.load_state_dict(fitting, strict=False)
    # Counters that only cumulative averages use are absent from frozen and from older layers.
    missing = [k for k in result.missing_keys if not k.endswith('num_batches_tracked')]
    missing = [k for k in missing if k not in mismatched]
    bad = len(missing) + len(mismatched)
    exact = least_share == 1.0
    if bad > (1 - least_share) * len(own) or (exact and result.unexpected_keys):
        shapes = [f'{k} {tuple(state[k].shape)} for {tuple(own[k])}' for k in mismatched]
        raise WeightsError(
            f'{source} does not belong to this {type(model).__name__}: '
            + '; '.join(
                f'{len(names)} {what} ({_shorten(names)})'
                for what, names in (
                    ('missing', missing),
                    ('of another shape', shapes),
                    ('unexpected', list(result.unexpected_keys)),
                )
                if names
            )
            + '. Use the config that the checkpoint was trained with.'
        )
    return missing + mismatched


def load_weights(model: nn.Module, checkpoint: Mapping, source: str) -> None:
    """Loads a checkpoint to detect with, which must fit; fuses the model if the weights are.

    Args:
        model: The model, in its training form.
        checkpoint: Contents of the checkpoint.
        source: Where it comes from, for the message.

    Raises:
        WeightsError: If the weights belong to another model, or are not finite.
    """
    state = unwrap_state_dict(checkpoint)
    check_finite(state, source)
    if meta_of(checkpoint).get('deploy'):
        model.switch_to_deploy()
    check_weights(model, state, source)


def _shorten(names: list[str], most: int = 4) -> str:
    more = f', and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
