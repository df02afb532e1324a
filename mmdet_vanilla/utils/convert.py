"""Turns foreign weights into ours: recognises them, renames them, finds their config."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from . import transformers_names
from .official_names import from_official, is_computed
from .weights import WeightsError, select_vanillanet_backbone, unwrap_state_dict

# Tensors whose first dimension is the number of classes, or one more.
CLASS_LAYERS = ('bbox_head.enc_score_head.', 'bbox_head.dec_score_head.')
CLASS_EMBED = 'bbox_head.denoising_class_embed.'


@dataclass
class Conversion:
    """Converted weights and what is known of them."""

    source: str  # what was recognised
    config_name: str  # file under configs/, or 'VanillaNet' for a backbone alone
    state_dict: dict[str, Tensor]
    arch: str | None = None  # of a backbone alone
    left_out: dict[str, str] = field(default_factory=dict)  # name: why
    left_new: list[str] = field(default_factory=list)  # ours that the weights do not fill

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the weights predict, None for a backbone."""
        weight = self.state_dict.get('bbox_head.enc_score_head.weight')
        return None if weight is None else len(weight)


def config_dir() -> str:
    """Folder of the package's configs, in a clone and in an installed wheel."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in (
        os.path.join(package, '.mim', 'configs'),
        os.path.join(package, '..', 'configs'),
    ):
        if os.path.isdir(folder):
            return os.path.normpath(folder)
    raise FileNotFoundError(
        f'no configs beside {package}: install the package by "pip install -e ." in its clone.'
    )


def convert_state_dict(
    foreign: Mapping, config: str | os.PathLike | None = None
) -> tuple[str, dict[str, Tensor]] | tuple[str, str, dict[str, Tensor]]:
    """Converts weights of RT-DETR, RT-DETRv2 (the authors' or ``transformers``') or VanillaNet.

    Args:
        foreign: Contents of a checkpoint, or a state dict.
        config: Config that the weights are for: a path, or the name of a file under ``configs/``.
            By default the config is picked by the names and shapes of the weights, which leave
            some open: bilinear sampling is picked and not discrete, VanillaNet-13 1.5x and not its
            form with adaptive pooling, and for weights of this package RT-DETR and not v2.

    Returns:
        ``(config_name, state_dict)``, where the model of ``configs/<config_name>`` loads
        ``state_dict`` strictly; for a VanillaNet classifier or backbone
        ``('VanillaNet', arch, state_dict)``.

    Raises:
        WeightsError: If the weights are not recognised, or do not fit the config.
    """
    result = convert(foreign, config)
    if result.arch is not None:
        return result.config_name, result.arch, result.state_dict
    return result.config_name, result.state_dict


def convert(
    foreign: Mapping,
    config: str | os.PathLike | None = None,
    other_classes: bool = False,
) -> Conversion:
    """:func:`convert_state_dict` with a record of what was done.

    Args:
        foreign: Contents of a checkpoint, or a state dict.
        config: See :func:`convert_state_dict`.
        other_classes: Whether the config may have another number of classes: the layers that depend
            on it are then left out of the result.
    """
    state = unwrap_state_dict(foreign)
    if 'stem1.0.weight' in state or 'stem.0.weight' in state:
        return _convert_vanillanet(state, config)

    renamed = _rename(state)
    ours, left_out = renamed.state_dict, renamed.left_out
    path = _pick_config(ours, renamed.version) if config is None else _find_config(config)
    name, expected = os.path.basename(path), _config_shapes(path)
    _compare_points(renamed.points, path)
    result = Conversion(renamed.source, name, ours, left_out=left_out)
    _fill_counters(ours, expected)
    if other_classes:
        for key in [k for k in ours if _is_class_tensor(k) and _shape(ours[k]) != expected.get(k)]:
            left_out[key] = 'made for another number of classes'
            result.left_new.append(key)
            del ours[key]
    _compare(ours, expected, name, result.left_new)
    return result


def _require_finite(state: Mapping[str, Tensor]) -> None:
    bad = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise WeightsError(f'{len(bad)} tensors hold NaN or infinity, e.g. {bad[0]}.')


def _compare_points(points: tuple[int, ...] | None, path: str) -> None:
    """Different numbers of points per level can have the same shapes."""
    if points is None:
        return
    expected = Config.fromfile(path).model.bbox_head.get('num_points', 4)
    if isinstance(expected, int):
        expected = (expected,) * len(points)
    else:
        expected = tuple(n for n in expected for _ in range(n))
    if points != expected:
        raise WeightsError(
            f'the levels of the sampling points have {points} points in the weights (by '
            f'num_points_scale) and {expected} in {os.path.basename(path)}: give a config with '
            'their num_points.'
        )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _is_class_tensor(name: str) -> bool:
    return name.startswith((*CLASS_LAYERS, CLASS_EMBED))


@dataclass
class _Renamed:
    """Weights under our names."""

    source: str
    version: int | None  # of RT-DETR, None where the names do not say
    state_dict: dict[str, Tensor]
    left_out: dict[str, str]
    points: tuple[int, ...] | None = None  # of every sampling point: how many its level has


def is_foreign(checkpoint: Mapping) -> bool:
    """Whether a checkpoint holds an RT-DETR under the authors' or the names of ``transformers``."""
    try:
        state = unwrap_state_dict(checkpoint)
    except WeightsError:
        return False
    return transformers_names.is_transformers(state) or 'decoder.enc_score_head.weight' in state


def rename_to_ours(checkpoint: Mapping) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Renames the tensors of a foreign RT-DETR, without a look at any config.

    Args:
        checkpoint: Contents of a checkpoint, or a state dict.

    Returns:
        What was recognised, the tensors by our names, and what was left out and why.
    """
    renamed = _rename(unwrap_state_dict(checkpoint))
    return renamed.source, renamed.state_dict, renamed.left_out


def _rename(state: Mapping[str, Tensor]) -> _Renamed:
    if any(name.startswith('bbox_head.') for name in state):
        _require_finite(state)
        return _Renamed('a detector of this package', None, dict(state), {})
    source = 'the authors'
    if transformers_names.is_transformers(state):
        source = 'transformers'
        version = 2 if transformers_names.is_v2(state) else 1
        state = transformers_names.to_official_names(state)
    elif 'decoder.enc_output.proj.weight' in state:
        version = 2
    elif 'decoder.enc_output.0.weight' in state:
        version = 1
    else:
        raise WeightsError(
            "weights not recognised: expected the RT-DETR authors' names (decoder.enc_output...), "
            "those of transformers (model.encoder_input_proj...), the VanillaNet authors' "
            "(stem1...) or this package's (bbox_head...); "
            f'got {", ".join(list(state)[:4])}, ...'
        )
    ours, left_out, points = {}, {}, None
    for name, tensor in state.items():
        if is_computed(name):
            left_out[name] = 'computed by the model'
            if name.endswith('num_points_scale'):
                points = tuple((1 / tensor.flatten().double()).round().long().tolist())
        else:
            # A name that is not known stays, to be reported as unexpected.
            ours[from_official(name) or name] = tensor
    title = f'RT-DETR{"v2" if version == 2 else ""} of {source}'
    # The anchors among what was left out are infinite where they are not valid.
    _require_finite(ours)
    return _Renamed(title, version, ours, left_out, points)


def _convert_vanillanet(
    state: Mapping[str, Tensor], config: str | os.PathLike | None
) -> Conversion:
    from mmdet_vanilla.models import VanillaNet

    _require_finite(state)
    backbone, dropped = select_vanillanet_backbone(state)
    archs = list(VanillaNet.arch_zoo)
    if config is not None:
        cfg = Config.fromfile(_find_config(config)).model.backbone
        if cfg.type != 'VanillaNet' or cfg.arch not in VanillaNet.arch_zoo:
            raise WeightsError(
                f'the weights are of a VanillaNet, the backbone of {config} is {dict(cfg)}.'
            )
        archs = [cfg.arch]
    deploy = 'stem.0.weight' in backbone
    activation = backbone.get('stem.1.weight' if deploy else 'stem2.2.weight')
    act_num = 3 if activation is None else activation.shape[-1] // 2
    family = {}
    for arch in archs:
        with torch.device('meta'):
            model = VanillaNet(arch, act_num=act_num, deploy=deploy)
        family[arch] = {name: _shape(tensor) for name, tensor in model.state_dict().items()}
    arch, expected = _most_similar(backbone, family)
    _fill_counters(backbone, expected)
    _compare(backbone, expected, f'VanillaNet-{arch}, the most similar one', [])
    left_out = {name: "the classifier's" for name in dropped}
    return Conversion('a VanillaNet', 'VanillaNet', backbone, arch, left_out)


def _most_similar(state: Mapping[str, Tensor], family: Mapping[str, dict]) -> tuple[str, dict]:
    """The first member of a family with the fewest differences in names and shapes."""
    shapes = {(name, _shape(tensor)) for name, tensor in state.items()}
    name = min(family, key=lambda member: len(shapes ^ set(family[member].items())))
    return name, family[name]


def _find_config(config: str | os.PathLike) -> str:
    config = os.fspath(config)
    for path in (
        config,
        os.path.join(config_dir(), config),
        os.path.join(config_dir(), f'{config}.py'),
    ):
        if os.path.isfile(path):
            return path
    raise WeightsError(f'no config at {config}, nor of that name in {config_dir()}.')


@functools.cache
def _config_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a config's model, built without memory for them."""
    from mmdet.registry import MODELS

    model_cfg = Config.fromfile(path).model
    for part in ('backbone', 'neck', 'bbox_head'):
        model_cfg.get(part, {}).pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(model_cfg)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _pick_config(ours: Mapping[str, Tensor], version: int | None) -> str:
    """Path of the config of the family whose model has these names and shapes, or nearly."""
    vanilla = any(name.startswith('backbone.stem1.') for name in ours)
    pattern = f'rtdetr{"v2" if version == 2 else ""}_{"vanillanet" if vanilla else "r"}*_coco.py'
    paths = sorted(glob.glob(os.path.join(config_dir(), pattern)), key=len)
    return _most_similar(ours, {path: _config_shapes(path) for path in paths})[0]


def _fill_counters(ours: dict[str, Tensor], expected: Mapping[str, tuple]) -> None:
    """Frozen normalisation layers of other codes do not count batches."""
    for name in expected:
        if name.endswith('.num_batches_tracked'):
            ours.setdefault(name, torch.tensor(0))


def _compare(
    ours: Mapping[str, Tensor], expected: Mapping[str, tuple], name: str, left_new: list[str]
) -> None:
    missing = sorted(set(expected) - set(ours) - set(left_new))
    unexpected = sorted(set(ours) - set(expected))
    mismatched = [k for k in ours if k in expected and _shape(ours[k]) != expected[k]]
    if not (missing or unexpected or mismatched):
        return
    lines = [f'the weights do not fit {name}:']
    lines += [f'  missing     {key}' for key in missing]
    lines += [f'  unexpected  {key}' for key in unexpected]
    lines += [
        f'  mismatched  {key}: {_shape(ours[key])}, expected {expected[key]}' for key in mismatched
    ]
    if mismatched and all(map(_is_class_tensor, mismatched)) and not missing + unexpected:
        score = next(key for key in mismatched if key.startswith(CLASS_LAYERS))
        lines.append(
            f'They were trained for {ours[score].shape[0]} classes and {name} has '
            f'{expected[score][0]}: give a config with as many, or allow another number of classes '
            'to leave these layers new.'
        )
    raise WeightsError('\n'.join(lines))
