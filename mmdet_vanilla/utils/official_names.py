"""Names of the RT-DETR authors' parameters and ours.

Neck and head keep the authors' names below another prefix, but for RT-DETR v1's unnamed pairs,
which got the names that v2 gave them. The backbone is mmdet's ResNet and keeps mmdet's names.
"""

from __future__ import annotations

import re

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
