"""Names of the RT-DETR authors' parameters and ours.

Neck and head keep the authors' names below another prefix, but for RT-DETR v1's unnamed pairs,
which got the names that v2 gave them. The backbone is mmdet's ResNet and keeps mmdet's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .weights import WeightsError, select_backbone

# (pattern of the authors' name, ours); the first that matches the start of a name applies.
_RULES = [
    (r'encoder\.input_proj\.(\d+)\.0\.', r'neck.input_proj.\1.conv.'),
    (r'encoder\.input_proj\.(\d+)\.1\.', r'neck.input_proj.\1.norm.'),
    (r'encoder\.', 'neck.'),
    (r'decoder\.enc_output\.0\.', 'bbox_head.enc_output.proj.'),
    (r'decoder\.enc_output\.1\.', 'bbox_head.enc_output.norm.'),
    (r'decoder\.', 'bbox_head.'),
    # The three convolutions of the deep stem are the 0th, 3rd and 6th of mmdet's sequence.
    (r'backbone\.conv1\.conv1_1\.conv\.', 'backbone.stem.0.'),
    (r'backbone\.conv1\.conv1_1\.norm\.', 'backbone.stem.1.'),
    (r'backbone\.conv1\.conv1_2\.conv\.', 'backbone.stem.3.'),
    (r'backbone\.conv1\.conv1_2\.norm\.', 'backbone.stem.4.'),
    (r'backbone\.conv1\.conv1_3\.conv\.', 'backbone.stem.6.'),
    (r'backbone\.conv1\.conv1_3\.norm\.', 'backbone.stem.7.'),
    # A shortcut with pooling has one more level of names than one without.
    (r'backbone\.res_layers\.(\d+)\.blocks\.(\d+)\.short\.(?:conv\.)?norm\.', ('downsample', '2')),
    (r'backbone\.res_layers\.(\d+)\.blocks\.(\d+)\.short\.(?:conv\.)?conv\.', ('downsample', '1')),
    *(
        (
            rf'backbone\.res_layers\.(\d+)\.blocks\.(\d+)\.branch2{letter}\.{kind}\.',
            (f'{name}{index}',),
        )
        for index, letter in enumerate('abc', start=1)
        for kind, name in (('conv', 'conv'), ('norm', 'bn'))
    ),
]

# Buffers that the authors store and ours compute.
_COMPUTED = ('anchors', 'valid_mask', 'num_points_scale', 'pos_embed')


def is_computed(name: str) -> bool:
    """Whether one of the authors' names is a buffer that our model computes by itself."""
    return any(part.startswith(_COMPUTED) for part in name.split('.'))


def from_official(name: str) -> str | None:
    """Our name for one of the RT-DETR authors' parameters.

    Args:
        name: Name in the authors' state dict, e.g. ``'decoder.enc_score_head.weight'``.

    Returns:
        The name in ours, e.g. ``'bbox_head.enc_score_head.weight'``, or None if the name is not one
        of RT-DETR's.
    """
    for pattern, ours in _RULES:
        match = re.match(pattern, name)
        if match:
            if isinstance(ours, tuple):
                stage, block = match.groups()
                ours = '.'.join([f'backbone.layer{int(stage) + 1}', block, *ours]) + '.'
                return ours + name[match.end() :]
            return match.expand(ours) + name[match.end() :]
    return None


def select_resnet_backbone(
    checkpoint: Mapping, prefix: str | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """The backbone's part of a ResNet-vd checkpoint.

    Args:
        checkpoint: Contents of one of the ImageNet files that RT-DETR's authors start from, of a
            detector of theirs or ours, or a state dict by mmdet's names.
        prefix: Prefix of the backbone's names; by default ``'backbone.'`` if any name has it.

    Returns:
        The backbone's tensors by our names, without prefix, and the names of the classifier's
        tensors (``fc`` or ``head``), which were left out.
    """
    state, left_out = {}, []
    for name, tensor in select_backbone(checkpoint, prefix).items():
        if name.split('.')[0] in ('fc', 'head'):
            left_out.append(name)
        else:
            ours = from_official(f'backbone.{name}')
            state[name if ours is None else ours.removeprefix('backbone.')] = tensor
    return state, left_out


# (pattern of our name, the authors' name in RT-DETR and in RT-DETRv2).
_BACK = [
    (
        r'neck\.input_proj\.(\d+)\.conv\.',
        r'encoder.input_proj.\1.0.',
        r'encoder.input_proj.\1.conv.',
    ),
    (
        r'neck\.input_proj\.(\d+)\.norm\.',
        r'encoder.input_proj.\1.1.',
        r'encoder.input_proj.\1.norm.',
    ),
    (r'neck\.', 'encoder.', 'encoder.'),
    (r'bbox_head\.enc_output\.proj\.', 'decoder.enc_output.0.', 'decoder.enc_output.proj.'),
    (r'bbox_head\.enc_output\.norm\.', 'decoder.enc_output.1.', 'decoder.enc_output.norm.'),
    (r'bbox_head\.', 'decoder.', 'decoder.'),
]


def to_official(name: str, version: int = 1) -> str | None:
    """The RT-DETR authors' name for one of our parameters; inverse of :func:`from_official`.

    Args:
        name: Name in our state dict.
        version: 1 for RT-DETR, 2 for RT-DETRv2.

    Returns:
        Their name, or None if ours is not one of an RT-DETR. Names of a backbone that the authors
        do not have stay as they are.
    """
    for pattern, *theirs in _BACK:
        match = re.match(pattern, name)
        if match:
            return match.expand(theirs[version - 1]) + name[match.end() :]
    match = re.match(r'backbone\.stem\.(\d)\.', name)
    if match:
        index, norm = divmod(int(match[1]), 3)
        kind = 'norm' if norm else 'conv'
        return f'backbone.conv1.conv1_{index + 1}.{kind}.{name[match.end() :]}'
    match = re.match(r'backbone\.layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.', name)
    if match:
        stage, block, kind, index = match.groups()
        start = f'backbone.res_layers.{int(stage) - 1}.blocks.{block}.'
        end = name[match.end() :]
        if kind == 'downsample.':
            pooled = '' if stage == '1' else 'conv.'
            return f'{start}short.{pooled}{"conv" if index == "1" else "norm"}.{end}'
        letter = 'abc'[int(index) - 1]
        return f'{start}branch2{letter}.{"conv" if kind == "conv" else "norm"}.{end}'
    return name if name.startswith('backbone.') else None


def to_official_state_dict(
    state: Mapping[str, Tensor], version: int = 1, num_points: int | Sequence[int] = 4
) -> dict[str, Tensor]:
    """Our RT-DETR's tensors under the authors' names.

    Args:
        state: State dict of an :class:`RTDETR` in the training form.
        version: 1 for RT-DETR, 2 for RT-DETRv2.
        num_points: Sampling points, of every level or one number for all. RT-DETRv2 stores them.

    Returns:
        Tensors by the authors' names: all that their model for 640x640 pixels loads strictly.

    Raises:
        WeightsError: If a name is not one of an RT-DETR.
    """
    # Their ResNet-50 and -101 have frozen normalisation, which counts no batches.
    frozen = any(name.startswith('backbone.layer1.0.conv3.') for name in state)
    renamed = {}
    for name, tensor in state.items():
        if frozen and name.startswith('backbone.') and name.endswith('.num_batches_tracked'):
            continue
        official = to_official(name, version)
        if official is None:
            raise WeightsError(f'{name} is not a parameter of an RT-DETR.')
        renamed[official] = tensor
    if version == 2:
        renamed.update(_v2_buffers(renamed, num_points))
    return renamed


def _v2_buffers(
    official: Mapping[str, Tensor], num_points: int | Sequence[int]
) -> dict[str, Tensor]:
    """Buffers that RT-DETRv2 keeps in its state dict, for 640x640 pixels and strides 8, 16, ..."""
    from mmdet_vanilla.models.dense_heads.rtdetr_head import generate_anchors

    num_levels = sum(
        name.endswith('conv.weight') for name in official if 'decoder.input_proj' in name
    )
    points = [num_points] * num_levels if isinstance(num_points, int) else list(num_points)
    shapes = [(640 // stride, 640 // stride) for stride in (8 * 2**i for i in range(num_levels))]
    anchors, valid = generate_anchors(shapes)
    scale = torch.cat([torch.full((n,), 1 / n) for n in points])
    buffers = {'decoder.anchors': anchors[None], 'decoder.valid_mask': valid[None]}
    for name in official:
        if name.endswith('cross_attn.sampling_offsets.weight'):
            attention = name.removesuffix('sampling_offsets.weight')
            buffers[f'{attention}num_points_scale'] = scale
    return buffers
