"""Names of the RT-DETR parameters in Hugging Face ``transformers``.

Facts of ``transformers`` 4.57's ``RTDetrForObjectDetection`` and ``RTDetrV2ForObjectDetection``,
expressed as the RT-DETR authors' names, so that there is one way into ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ENCODER_LAYER = [
    (r'self_attn_layer_norm\.', 'norm1.'),
    (r'fc1\.', 'linear1.'),
    (r'fc2\.', 'linear2.'),
]
_BACKBONE_LAYER = {'0': 'a', '1': 'b', '2': 'c'}
_STAGE = r'model\.backbone\.model\.encoder\.stages\.(\d+)\.layers\.(\d+)\.'

# (pattern of the name in transformers, the authors'); the first match applies.
_RULES = [
    (
        r'model\.backbone\.model\.embedder\.embedder\.(\d+)\.(convolution|normalization)\.',
        lambda m: f'backbone.conv1.conv1_{int(m[1]) + 1}.{_KIND[m[2]]}.',
    ),
    (
        _STAGE + r'layer\.(\d+)\.(convolution|normalization)\.',
        lambda m: (
            f'backbone.res_layers.{m[1]}.blocks.{m[2]}.branch2{_BACKBONE_LAYER[m[3]]}.{_KIND[m[4]]}.'
        ),
    ),
    (
        _STAGE + r'shortcut\.1\.(convolution|normalization)\.',
        lambda m: f'backbone.res_layers.{m[1]}.blocks.{m[2]}.short.conv.{_KIND[m[3]]}.',
    ),
    (
        _STAGE + r'shortcut\.(convolution|normalization)\.',
        lambda m: f'backbone.res_layers.{m[1]}.blocks.{m[2]}.short.{_KIND[m[3]]}.',
    ),
    (r'model\.encoder_input_proj\.', 'encoder.input_proj.'),
    (r'model\.encoder\.', 'encoder.'),
    (r'model\.decoder_input_proj\.(\d+)\.0\.', r'decoder.input_proj.\1.conv.'),
    (r'model\.decoder_input_proj\.(\d+)\.1\.', r'decoder.input_proj.\1.norm.'),
    (r'model\.decoder\.layers\.', 'decoder.decoder.layers.'),
    (r'model\.decoder\.query_pos_head\.', 'decoder.query_pos_head.'),
    (r'model\.decoder\.class_embed\.', 'decoder.dec_score_head.'),
    (r'model\.decoder\.bbox_embed\.', 'decoder.dec_bbox_head.'),
    (r'model\.(denoising_class_embed|enc_output|enc_score_head|enc_bbox_head)\.', r'decoder.\1.'),
]
_KIND = dict(convolution='conv', normalization='norm')

# Copies of model.decoder.class_embed and bbox_embed, as transformers saves tied tensors.
_TIED = re.compile(r'(?=class_embed\.|bbox_embed\.)')


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of ``transformers``."""
    return any(name.startswith('model.encoder_input_proj.') for name in state)


def is_v2(state: Mapping[str, Tensor]) -> bool:
    """Whether the names, which are those of ``transformers``, say RT-DETRv2."""
    return any(name.endswith('n_points_scale') for name in state)


def _layer_name(name: str) -> str:
    """Renames what is inside a transformer layer of encoder or decoder."""
    match = re.match(r'((?:encoder\.encoder\.\d+|decoder\.decoder)\.layers\.\d+\.)(.*)', name)
    if not match:
        return name
    prefix, rest = match.groups()
    last_norm = 'norm2.' if prefix.startswith('encoder') else 'norm3.'
    for pattern, ours in [
        *_ENCODER_LAYER,
        (r'encoder_attn_layer_norm\.', 'norm2.'),
        (r'final_layer_norm\.', last_norm),
        (r'encoder_attn\.', 'cross_attn.'),
    ]:
        match = re.match(pattern, rest)
        if match:
            return prefix + ours + rest[match.end() :]
    return name


def to_official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of a ``transformers`` RT-DETR to the authors' names.

    The separate projections of query, key and value become one ``in_proj``, and the copies of the
    prediction heads that ``transformers`` saves beside them are dropped.

    Args:
        state: State dict of ``RTDetrForObjectDetection`` or ``RTDetrV2ForObjectDetection``.

    Returns:
        Tensors by the authors' names; names that are not known are kept as they are.
    """
    renamed, projections = {}, {}
    state = dict(state)
    for name in [name for name in state if _TIED.match(name)]:
        # A copy that differs from its original stays, to be reported.
        original = state.setdefault(f'model.decoder.{name}', state[name])
        if original is state[name] or torch.equal(original, state[name]):
            del state[name]
    for name, tensor in state.items():
        official = name
        for pattern, ours in _RULES:
            match = re.match(pattern, name)
            if match:
                start = ours(match) if callable(ours) else match.expand(ours)
                official = _layer_name(start + name[match.end() :])
                break
        if official.endswith('n_points_scale'):
            official = official.replace('n_points_scale', 'num_points_scale')
        match = re.fullmatch(r'(.*\.self_attn)\.([qkv])_proj\.(weight|bias)', official)
        if match:
            projections.setdefault((match[1], match[3]), {})[match[2]] = tensor
        else:
            renamed[official] = tensor
    for (attention, kind), parts in projections.items():
        if set(parts) == set('qkv'):
            joined = torch.cat([parts[part] for part in 'qkv'])
            renamed[f'{attention}.in_proj_{kind}'] = joined
        else:
            for part, tensor in parts.items():
                renamed[f'{attention}.{part}_proj.{kind}'] = tensor
    return renamed
