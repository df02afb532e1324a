"""Reads checkpoint files without executing what is in them."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO
from urllib.parse import urlparse

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from . import pickles
from .archive import MAGIC, ArchiveError, read_directory
from .atomic import atomic_path
from .errors import UserError
from .weights import meta_of, unwrap_state_dict

# Whether torch can be told which class a name stands for, which it can since 2.6 or so.
_NAMES_CAN_BE_GIVEN = (
    'tuple'
    in str(
        getattr(getattr(torch.serialization, 'add_safe_globals', None), '__annotations__', '')
    ).lower()
)


class CheckpointError(UserError, ValueError):
    """A file is truncated, damaged or not a checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint needs code or objects that are not on the allow-list."""


class _Trust:
    """Whether checkpoints may run code in this process: one answer for all that is read in it."""

    given = False


def trust_checkpoints(given: bool = True) -> None:
    """Says, before anything is read, whether checkpoints may run the code that they hold.

    Args:
        given: Whether they may. They may not until this is called.
    """
    _Trust.given = given


class _File(io.FileIO):
    """A file that torch reads as a stream: it takes one with a descriptor for a tar archive."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation('fileno')


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file for reading, and nothing else: a pipe would wait for ever, a device may act.

    Args:
        path: Path of the file; a symbolic link is followed.

    Raises:
        FileNotFoundError: If there is nothing.
        CheckpointError: If it is a folder, a pipe, a socket or a device, or may not be read.
    """
    path = os.fspath(path)
    what = f'{path} is no regular file, but a pipe, a device or a folder: give the checkpoint.'
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CheckpointError(what)
        # It may have been exchanged since.
        flags = getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
        descriptor = os.open(path, os.O_RDONLY | flags)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f'no checkpoint at {os.path.abspath(path)}: check the path.'
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f'{path} cannot be read: {error}.') from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(what)
    return io.BufferedReader(_File(descriptor))


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Reads a ``.pth``/``.pt`` or ``.safetensors`` file to the CPU.

    Only tensors, plain containers and the few classes that mmengine writes are built; nothing in
    the file is executed, and reading takes time and memory in proportion to the file. Only
    :func:`trust_checkpoints` lifts that.

    Args:
        path: Path of the file.

    Returns:
        What the file holds: a dict. A ``.safetensors`` file that :func:`write_checkpoint` wrote has
        its weights under ``state_dict``, and classes and the text of the config under ``meta``.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If the file needs a class that is not allowed.
        CheckpointError: If the file is truncated or not a checkpoint, or no regular file.
    """
    path = os.fspath(path)
    with open_regular(path) as file:
        if path.endswith('.safetensors'):
            return _read_safetensors(path)
        start = file.read(512)
        if start[257:262] == b'ustar':
            raise UnsafeCheckpointError(
                f'{path} is a tar archive, as torch wrote them before 0.1.10: load it there and '
                'save it anew.'
            )
        zipped = start.startswith(MAGIC)
        try:
            checkpoint = _load(file, zipped)
        except pickles.ForbiddenError as error:
            raise UnsafeCheckpointError(
                f'{path} holds {error}, which is not a tensor and is not loaded, since loading it '
                'could run code from the file. If you made the file yourself, save its state dict '
                'alone, or trust it explicitly (--trust-checkpoint of tools/train.py, '
                'tools/test.py and tools/convert_weights.py).'
            ) from None
        except CheckpointError as error:
            raise type(error)(f'{path} {error}') from None
        except Exception as error:  # torch's has many kinds
            kind = 'is damaged' if zipped else 'is truncated or not a checkpoint'
            reason = str(error).split('\n')[0]
            raise CheckpointError(f'{path} {kind}: {type(error).__name__}: {reason}') from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, expected a dict of tensors.'
        )
    return checkpoint


def _load(file: BinaryIO, zipped: bool) -> Any:
    """Checks a file and builds what it holds; the whole decision is made before, once."""
    if zipped:
        _check_archive(file)
    elif not _Trust.given:
        _check_stream(file)
    file.seek(0)
    if _Trust.given:
        return torch.load(file, map_location='cpu', weights_only=False)
    if _NAMES_CAN_BE_GIVEN:
        names = [(stand_in, name) for name, stand_in in pickles.STAND_INS.items()]
        with torch.serialization.safe_globals(names):
            checkpoint = torch.load(file, map_location='cpu', weights_only=True)
    else:
        checkpoint = torch.load(
            file, map_location='cpu', weights_only=False, pickle_module=_data_pickle
        )
    return pickles.restore(checkpoint)


# torch.load takes a module with the interface of pickle.
_data_pickle = ModuleType('data_pickle')
_data_pickle.Unpickler = pickles.DataUnpickler
_data_pickle.load = lambda file, **kwargs: pickles.DataUnpickler(file, **kwargs).load()


def _check_archive(file: BinaryIO) -> None:
    """Checks what ``torch.save`` writes since 1.6.

    Raises:
        CheckpointError: If the archive is a program or no checkpoint.
        ForbiddenError, PickleError, ArchiveError: As :func:`scan` and :func:`read_directory`.
    """
    entries = read_directory(file)
    if any(name.lower().endswith('constants.pkl') for name in entries):
        raise UnsafeCheckpointError(
            'is a TorchScript program and no checkpoint: give the file it was made from.'
        )
    if any(entry.packed for entry in entries.values()):
        raise UnsafeCheckpointError(
            'is compressed, which torch.save never does: if it was packed afterwards, unpack it '
            'first.'
        )
    folders = {name.partition('/')[0] for name in entries}
    pickle = entries.get(f'{min(folders, default="")}/data.pkl')
    if len(folders) != 1 or '' in folders or pickle is None:
        raise CheckpointError('is an archive, but no checkpoint: it has no data.pkl in its folder.')
    if _Trust.given:
        return
    [folder] = folders
    size = file.seek(0, 2)
    file.seek(pickle.offset)
    storages: dict[str, tuple] = {}
    pickles.scan(io.BytesIO(file.read(pickle.size)), size, storages)
    for key, (length, *_) in storages.items():
        entry = entries.get(f'{folder}/data/{key}')
        if entry is None or length > entry.size:
            raise pickles.PickleError(f'the storage {key!r} is cut off')


def _check_stream(file: BinaryIO) -> None:
    """Checks what ``torch.save`` wrote before 1.6: five pickles, then the numbers.

    Raises:
        ForbiddenError, PickleError: As :func:`scan`, and if it is something else.
    """
    size = file.seek(0, 2)
    file.seek(0)
    none: dict[str, tuple] = {}
    magic, protocol, _ = (pickles.scan(file, size, none) for _ in range(3))
    begins = torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION
    if (magic, protocol) != begins:
        raise pickles.PickleError('no file of torch.save')
    storages: dict[str, tuple] = {}
    pickles.scan(file, size, storages)
    keys = pickles.texts_of(pickles.scan(file, size, none))
    # A part of a storage has no numbers of its own.
    whole = {key: length for key, (length, *part) in storages.items() if len(part) == 1}
    if none or keys is None or sorted(keys) != sorted(whole):
        raise pickles.PickleError('its list of storages is damaged')
    if sum(whole.values()) + 8 * len(whole) > size - file.tell():
        raise pickles.PickleError('its numbers are cut off')


# Under which a .safetensors file of ours has its classes and its config.
_OURS = 'mmdet_vanilla'


def _read_safetensors(path: str) -> dict:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{path} needs safetensors: pip install safetensors') from None
    try:
        state = load_file(path)
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
        if _OURS not in metadata:
            return state
        meta = json.loads(metadata[_OURS])
    except (SafetensorError, RuntimeError, OSError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f'{path} is truncated or not a safetensors file: {error}') from None
    return dict(state_dict=state, meta=_safetensors_meta(meta, metadata))


def _safetensors_meta(ours: Any, metadata: Mapping[str, str]) -> dict:
    """The entries of a checkpoint's ``meta`` that a .safetensors file can have, as texts."""
    ours = ours if isinstance(ours, dict) else {}
    meta: dict[str, Any] = dict(cfg=metadata['config']) if 'config' in metadata else {}
    if ours.get('deploy') is True:
        meta['deploy'] = True
    classes = ours.get('classes')
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        meta['dataset_meta'] = dict(classes=tuple(classes))
    return meta


def _safetensors_metadata(checkpoint: Mapping) -> dict[str, str]:
    from .classes import classes_of

    meta = meta_of(checkpoint)
    ours: dict[str, Any] = dict(deploy=True) if meta.get('deploy') else {}
    classes = classes_of(checkpoint)
    if classes:
        ours['classes'] = list(classes)
    metadata = {'format': 'pt', _OURS: json.dumps(ours)}
    if isinstance(meta.get('cfg'), str):
        metadata['config'] = meta['cfg']
    return metadata


def fetch_checkpoint(source: str | os.PathLike) -> dict:
    """:func:`read_checkpoint` of a path or of an ``http(s)`` URL.

    Args:
        source: Path or URL; a URL is downloaded once to torch's hub cache.

    Raises:
        CheckpointError: If the URL cannot be downloaded, and as :func:`read_checkpoint`.
    """
    source = os.fspath(source)
    url = urlparse(source)
    if url.scheme not in ('http', 'https'):
        return read_checkpoint(source)
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(folder, exist_ok=True)
    # Many files are called model.pth.
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    path = os.path.join(folder, f'{digest}-{os.path.basename(url.path)}')
    if not os.path.isfile(path):
        try:
            torch.hub.download_url_to_file(source, path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CheckpointError(
                f'{source} cannot be downloaded: {error}. Is this machine online, and does it need '
                f'a proxy (https_proxy)? Or download it elsewhere and put it to {path}.'
            ) from None
    return read_checkpoint(path)


def restrict_mmengine_loading() -> None:
    """Makes mmengine load checkpoints by :func:`fetch_checkpoint` in this process.

    mmengine itself unpickles: OpenMMLab's always, the maintained fork where ``weights_only`` fails.
    What is replaced is the loading of files and URLs, also of those that go by a name
    (``torchvision://resnet50``), and the search for the latest checkpoint. Files on other stores
    are refused.
    """
    from mmengine import runner
    from mmengine.runner import _flexible_runner
    from mmengine.runner import runner as runner_module

    def load(filename: str, map_location: Any = None, **kwargs: Any) -> dict:
        checkpoint = fetch_checkpoint(filename)
        if not _Trust.given and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # mmengine would run this text when resuming
        return checkpoint

    def load_openmmlab(filename: str, map_location: Any = None) -> dict:
        name = filename.split('://', 1)[1]
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
        source = mmengine_checkpoint.get_external_models()[name]
        # An address, or a file in mmengine's folder.
        folder = '' if '://' in source else mmengine_checkpoint._get_mmengine_home()
        return load(os.path.join(folder, source))

    def of_store(unrestricted: Callable[..., dict]) -> Callable[..., dict]:
        def refuse(filename: str, map_location: Any = None) -> dict:
            if _Trust.given:
                return unrestricted(filename, map_location)
            raise UnsafeCheckpointError(
                f'{filename} would be unpickled, which runs whatever code it holds: download it '
                'and give the file, or trust it explicitly (--trust-checkpoint of tools/train.py '
                'and tools/test.py).'
            )

        return refuse

    ceph, pavi = mmengine_checkpoint.load_from_ceph, mmengine_checkpoint.load_from_pavi
    loaders = {
        **dict.fromkeys(('', 'http://', 'https://'), load),
        **dict.fromkeys(('open-mmlab://', 'openmmlab://'), load_openmmlab),
        **dict.fromkeys((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), of_store(ceph)),
        'pavi://': of_store(pavi),
    }
    for prefix, loader in loaders.items():
        CheckpointLoader.register_scheme(prefix, loader, force=True)
    mmengine_checkpoint.load_from_http = mmengine_checkpoint.load_from_local = load
    for module in (runner, runner_module, _flexible_runner, mmengine_checkpoint):
        module.find_latest_checkpoint = latest_checkpoint


def find_checkpoint(source: str | os.PathLike) -> str:
    """The weights that a path names.

    Args:
        source: A file, or a folder as ``transformers`` saves it (``config.json`` and
            ``model.safetensors``).

    Returns:
        Path of the file with the weights.

    Raises:
        FileNotFoundError: If a folder holds none.
    """
    source = os.fspath(source)
    if not os.path.isdir(source):
        return source
    path = os.path.join(source, 'model.safetensors')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no model.safetensors in the folder {os.path.abspath(source)}.')
    return path


def write_checkpoint(checkpoint: dict, path: str | os.PathLike) -> None:
    """Writes a checkpoint so that the path holds a whole file or none.

    Args:
        checkpoint: What to write. A ``.safetensors`` file gets the weights, the names of the
            classes and the text of the config.
        path: ``.pth``, ``.pt`` or ``.safetensors`` file.
    """
    with atomic_path(path) as part:
        if os.fspath(path).endswith('.safetensors'):
            from safetensors.torch import save_file

            state, seen = {}, set()
            for name, tensor in unwrap_state_dict(checkpoint).items():
                tensor = tensor.detach().contiguous()
                # Weights that are shared are written twice, since the format shares none.
                place = tensor.untyped_storage().data_ptr()
                state[name] = tensor.clone() if place in seen else tensor
                seen.add(place)
            save_file(state, part, _safetensors_metadata(checkpoint))
        else:
            torch.save(checkpoint, part)


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The checkpoint from which a training goes on.

    Args:
        work_dir: Its work dir, which may have been moved since.

    Returns:
        The one that ``last_checkpoint`` names, or, should that be missing or cut off, the newest
        one that is whole; ``None`` if there is none.
    """
    folder = Path(work_dir)
    named = _pointed_at(folder)
    candidates = [Path(named), folder / Path(named).name] if named else []
    saved = (path for kind in ('epoch', 'iter') for path in folder.glob(f'{kind}_*.pth'))
    candidates += sorted(saved, key=lambda path: path.lstat().st_mtime, reverse=True)
    whole = (path for path in candidates if path.is_dir() or _is_whole(path))
    return next(map(str, whole), None)


def _pointed_at(folder: Path) -> str | None:
    try:
        with open_regular(folder / 'last_checkpoint') as file:
            return file.read(4096).decode().strip()
    except (OSError, ValueError):  # none, no regular file, or no text
        return None


def _is_whole(path: Path) -> bool:
    """Whether an archive is not cut off: its directory is at its end."""
    try:
        with open_regular(path) as file:
            return bool(read_directory(file))
    except (OSError, CheckpointError, ArchiveError):
        return False
