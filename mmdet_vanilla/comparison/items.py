"""What can be compared: configs with or without weights, mmdet's zoo, exported files."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ComparisonError

_RUNTIMES = {'.onnx': 'onnxruntime', '.xml': 'openvino'}
_DEPLOY = '@deploy'
_FORMS = (
    'a config (configs/x.py), config::checkpoint, a name of a zoo (mmdet::folder/x.py), one of '
    'these with @deploy for the fused form, or an exported file (.onnx, .xml)'
)


@dataclass(frozen=True)
class Item:
    """One detector to compare.

    Attributes:
        spec: As given on the command line.
        name: What it is called in tables, unique within a comparison.
        kind: ``'pytorch'``, ``'onnxruntime'`` or ``'openvino'``.
        path: Path of the config, or of the exported file.
        checkpoint: Path or URL of the weights, or ``None``; exported files hold their own.
        deploy: Whether to measure the fused form.
    """

    spec: str
    name: str
    kind: str
    path: str
    checkpoint: str | None = None
    deploy: bool = False

    @property
    def key(self) -> str:
        """Name of its files: letters, digits and dashes, unique within a comparison."""
        slug = re.sub(r'[^A-Za-z0-9_.]+', '-', self.name).strip('-.')[:60]
        return f'{slug}-{hashlib.sha256(f"{self.spec} {self.name}".encode()).hexdigest()[:6]}'

    @property
    def has_weights(self) -> bool:
        """Whether its detections mean something."""
        return self.kind != 'pytorch' or self.checkpoint is not None


def parse_items(specs: Sequence[str]) -> list[Item]:
    """Parses several items, and tells equal names apart by a number.

    Args:
        specs: See :func:`parse_item`.

    Returns:
        The items, in the same order.

    Raises:
        ComparisonError: If one of them cannot be compared, or there is none.
    """
    if not specs:
        raise ComparisonError(f'nothing to compare: expected at least one of {_FORMS}.')
    items, seen = [], {}
    for item in map(parse_item, specs):
        count = seen[item.name] = seen.get(item.name, 0) + 1
        items.append(item if count == 1 else replace(item, name=f'{item.name} #{count}'))
    return items


def parse_item(spec: str) -> Item:
    """Parses one item and finds its files.

    Args:
        spec: A config, ``config::checkpoint``, ``package::folder/config.py`` (of a zoo that is
            installed, such as ``mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py``), that with
            ``::checkpoint``, any of these with ``@deploy`` at the end, or an ``.onnx`` or OpenVINO
            ``.xml`` file.

    Returns:
        The item.

    Raises:
        ComparisonError: If it names nothing that is there. The message suggests close names.
    """
    deploy = spec.endswith(_DEPLOY)
    parts = spec.removesuffix(_DEPLOY).split('::')
    suffix = Path(parts[0]).suffix
    if suffix in _RUNTIMES and len(parts) == 1:
        return _parse_artefact(spec, parts[0], deploy)
    package = parts.pop(0) if not suffix == '.py' and len(parts) > 1 else None
    if len(parts) > 2 or not all(parts):
        raise ComparisonError(f'{spec!r} is no item: expected {_FORMS}.')
    config, checkpoint = parts[0], parts[1] if len(parts) == 2 else None
    path = _find_in_zoo(package, config) if package else _find_config(config)
    if checkpoint and '://' not in checkpoint and not Path(checkpoint).is_file():
        raise ComparisonError(
            f'no checkpoint at {checkpoint} (looked for {Path(checkpoint).absolute()}).'
        )
    name = path.stem + (_DEPLOY if deploy else '')
    return Item(spec, name, 'pytorch', str(path), checkpoint, deploy)


def _parse_artefact(spec: str, file: str, deploy: bool) -> Item:
    path = Path(file)
    if deploy:
        raise ComparisonError(f'{spec!r}: an exported file is fused already, leave @deploy out.')
    if not path.is_file():
        raise ComparisonError(f'no exported file at {file} (looked for {path.absolute()}).')
    if path.suffix == '.xml' and not path.with_suffix('.bin').is_file():
        raise ComparisonError(f'{path.with_suffix(".bin")}, the weights of {file}, is missing.')
    # Exported files are all called end2end: the folder tells them apart.
    name = f'{path.absolute().parent.name}/{path.name}'
    return Item(spec, name, _RUNTIMES[path.suffix], str(path))


def _find_config(config: str) -> Path:
    path = Path(config)
    if path.is_file():
        return path
    siblings = [str(p) for p in path.parent.glob('*.py')] if path.parent.is_dir() else []
    zoo = [f'mmdet::{name}' for name in _zoo_names('mmdet')]
    close = _close(config, siblings) or _close(config, zoo)
    raise ComparisonError(
        f'no config at {config} (looked for {path.absolute()}). {_suggest(close)}'
        f'An item is {_FORMS}.'
    )


def _find_in_zoo(package: str, config: str) -> Path:
    names = _zoo_names(package)
    if not names:
        raise ComparisonError(
            f'{package!r} in {package}::{config} is no installed package with configs, such as '
            'mmdet or mmdet_vanilla.'
        )
    path = _zoo_folder(package) / config
    if path.is_file() and path.suffix == '.py':
        return path
    close = [f'{package}::{name}' for name in _close(config, names)]
    raise ComparisonError(
        f'{package} has no config {config!r} among its {len(names)}. {_suggest(close)}'.strip()
    )


def _zoo_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.origin:
        return None
    root = Path(spec.origin).parent
    # Run from a clone, this package's own configs lie beside it.
    folders = (root / '.mim' / 'configs', root.parent / 'configs')
    found = (folder for folder in folders if folder.is_dir())
    return next(found, None)


def _zoo_names(package: str) -> list[str]:
    folder = _zoo_folder(package)
    if folder is None:
        return []
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*.py'))


def _close(name: str, names: Sequence[str], most: int = 3) -> list[str]:
    """Close matches by the file's name, where folders differ too easily."""
    by_file = {}
    for candidate in names:
        by_file.setdefault(candidate.rsplit('/', 1)[-1], candidate)
    close = difflib.get_close_matches(name.rsplit('/', 1)[-1], by_file, most, cutoff=0.5)
    return [by_file[file] for file in close]


def _suggest(close: Sequence[str]) -> str:
    return f'Did you mean {" or ".join(close)}? ' if close else ''
