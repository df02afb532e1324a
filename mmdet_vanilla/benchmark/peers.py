"""RT-DETR of ``transformers`` of the same shape, with the same weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from mmdet.registry import MODELS
from torch import nn

from mmdet_vanilla.utils.convert import rename_to_ours
from mmdet_vanilla.utils.errors import UserError

# Arguments of TransformersRTDETR that make it the model of a config.
SHAPES = {
    'rtdetr_r18vd_coco': dict(
        backbone=dict(
            embedding_size=64,
            hidden_sizes=[64, 128, 256, 512],
            depths=[2, 2, 2, 2],
            layer_type='basic',
            out_features=['stage2', 'stage3', 'stage4'],
        ),
        model=dict(
            encoder_in_channels=[128, 256, 512],
            hidden_expansion=0.5,
            decoder_layers=3,
            # The authors train it, and so do we.
            freeze_backbone_batch_norms=False,
        ),
    ),
    'rtdetr_r50vd_coco': dict(
        backbone=dict(
            embedding_size=64,
            hidden_sizes=[256, 512, 1024, 2048],
            depths=[3, 4, 6, 3],
            layer_type='bottleneck',
            out_features=['stage2', 'stage3', 'stage4'],
        ),
        model=dict(encoder_in_channels=[512, 1024, 2048]),
    ),
}


def has_peer(config: str) -> bool:
    """Whether ``transformers`` is installed and has a model of the shape of a config."""
    return Path(config).stem in SHAPES and importlib.util.find_spec('transformers') is not None


def build_peer(config: str) -> nn.Module:
    """Builds the model of ``transformers`` with random weights, always the same ones.

    Args:
        config: Path of a config.

    Returns:
        A ``TransformersRTDETR`` in evaluation mode.

    Raises:
        UserError: If ``transformers`` has none of its shape, or is not installed.
    """
    name = Path(config).stem
    if name not in SHAPES:
        raise UserError(
            f'{config} has no peer in transformers, expected one of {", ".join(SHAPES)}: choose '
            'one of them, or leave transformers out.'
        )
    try:
        from . import transformers_detector  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'transformers is not installed ({error}): pip install -r requirements/peers.txt.'
        ) from None
    torch.manual_seed(0)
    return MODELS.build(dict(type='TransformersRTDETR', num_classes=80, **SHAPES[name])).eval()


def load_peers_weights(model: nn.Module, peer: nn.Module) -> None:
    """Gives our model the weights of the peer.

    Args:
        model: A detector of this package, in the training form.
        peer: A ``TransformersRTDETR`` of the same shape.

    Raises:
        UserError: If they have different shapes.
    """
    _, state, _ = rename_to_ours(peer.model.state_dict())
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f'the peer has another shape: {error}') from None
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    if missing or result.unexpected_keys:
        raise UserError(
            f'the peer has another shape: it lacks {missing} and has {result.unexpected_keys}.'
        )
