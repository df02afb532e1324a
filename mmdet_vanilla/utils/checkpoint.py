"""Reads checkpoint files without executing what is in them."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint

from .atomic import atomic_path
from .errors import UserError
from .weights import unwrap_state_dict

# What mmengine, mmdet and the authors' training code put into a checkpoint beside tensors.
# A name missing here makes the file unreadable, never executable.
_ALLOWED_GLOBALS = {
    'collections': {'Counter', 'OrderedDict', 'defaultdict', 'deque'},
    'builtins': {
        'set',
        'frozenset',
        'slice',
        'complex',
        'bytearray',
    },
    '__builtin__': {'set', 'frozenset', 'slice', 'complex', 'bytearray'},
    '_codecs': {'encode'},
    'argparse': {'Namespace'},
    'mmengine.logging.history_buffer': {'HistoryBuffer'},
    'numpy': {'ndarray', 'dtype'},
    'numpy.core.multiarray': {'_reconstruct', 'scalar'},
    'numpy._core.multiarray': {'_reconstruct', 'scalar'},
    'torch': {'Size', 'device', 'dtype'},
    'torch._utils': {
        '_rebuild_tensor',
        '_rebuild_tensor_v2',
        '_rebuild_parameter',
        '_rebuild_parameter_with_state',
    },
    'torch.nn.parameter': {'Parameter'},
    'torch.storage': {'UntypedStorage', 'TypedStorage'},
    'torch.serialization': {'_get_layout'},
}


class CheckpointError(UserError, ValueError):
    """A file is truncated, damaged or not a checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint needs code or objects that are not on the allow-list."""


class _ForbiddenError(Exception):
    """Names what is not on the allow-list."""


def _history_buffer_method(owner: type, name: str) -> Any:
    """Stands for ``getattr``, by which a HistoryBuffer names its statistics methods."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise _ForbiddenError(f'getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


# The one in C allocates as much memory as a damaged number in the file says.
class _RestrictedUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (('builtins', 'getattr'), ('__builtin__', 'getattr')):
            return _history_buffer_method
        storage = module == 'torch' and name.endswith('Storage') and '.' not in name
        dtype = module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype)
        numpy_dtype = module == 'numpy.dtypes' and name.endswith('DType') and '.' not in name
        if storage or dtype or numpy_dtype or name in _ALLOWED_GLOBALS.get(module, ()):
            return super().find_class(module, name)
        raise _ForbiddenError(f'{module}.{name}')


# torch.load takes a module with the interface of pickle; this works alike on torch 2.1 and 2.13,
# where ``weights_only=True`` needs ``safe_globals``, which 2.1 does not have.
_restricted_pickle = ModuleType('restricted_pickle')
_restricted_pickle.Unpickler = _RestrictedUnpickler
_restricted_pickle.load = lambda file, **kwargs: _RestrictedUnpickler(file, **kwargs).load()


def read_checkpoint(path: str | os.PathLike, trust_pickle: bool = False) -> dict:
    """Reads a ``.pth``/``.pt`` or ``.safetensors`` file to the CPU.

    Only tensors, plain containers and the few classes that mmengine writes are built; nothing in
    the file is executed.

    Args:
        path: Path of the file.
        trust_pickle: Whether to unpickle the file without restrictions. This runs whatever code
            the file holds: for files of your own only.

    Returns:
        What the file holds: a dict.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If the file needs a class that is not allowed.
        CheckpointError: If the file is truncated or not a checkpoint.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint at {os.path.abspath(path)}: check the path.')
    if path.endswith('.safetensors'):
        return _read_safetensors(path)
    try:
        if not trust_pickle:
            _check_archive(path)
        if trust_pickle:
            checkpoint = torch.load(path, map_location='cpu', weights_only=False)
        else:
            checkpoint = torch.load(
                path, map_location='cpu', weights_only=False, pickle_module=_restricted_pickle
            )
    except _ForbiddenError as error:
        raise UnsafeCheckpointError(
            f'{path} holds {error}, which is not a tensor and is not loaded, since loading it '
            'could run code from the file. If you made the file yourself, save its state dict '
            'alone, or trust it explicitly (--trust-checkpoint of tools/train.py and '
            'tools/test.py, --trust-pickle of tools/convert_weights.py).'
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # a pickle calls constructors with whatever it holds
        kind = 'is damaged' if _is_archive(path) else 'is truncated or not a checkpoint'
        raise CheckpointError(f'{path} {kind}: {type(error).__name__}: {error}') from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, expected a dict of tensors.'
        )
    return checkpoint


def _is_archive(path: str | os.PathLike) -> bool:
    """Whether a file has the directory of a zip archive at its end."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _check_archive(path: str) -> None:
    """Refuses archives that torch would treat as programs, or that grow when they are read."""
    if not _is_archive(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith('constants.pkl') for entry in entries):
        raise UnsafeCheckpointError(
            f'{path} is a TorchScript program and no checkpoint: give the file it was made from.'
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UnsafeCheckpointError(
            f'{path} is compressed, which torch.save never does: if it was packed afterwards, '
            'unpack it first.'
        )


def _read_safetensors(path: str) -> dict:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{path} needs safetensors: pip install safetensors') from None
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, OSError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f'{path} is truncated or not a safetensors file: {error}') from None


def fetch_checkpoint(source: str | os.PathLike, trust_pickle: bool = False) -> dict:
    """:func:`read_checkpoint` of a path or of an ``http(s)`` URL.

    Args:
        source: Path or URL; a URL is downloaded once to torch's hub cache.
        trust_pickle: See :func:`read_checkpoint`.

    Raises:
        CheckpointError: If the URL cannot be downloaded, and as :func:`read_checkpoint`.
    """
    source = os.fspath(source)
    url = urlparse(source)
    if url.scheme not in ('http', 'https'):
        return read_checkpoint(source, trust_pickle)
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
    return read_checkpoint(path, trust_pickle)


def restrict_mmengine_loading(trust_pickle: bool = False) -> None:
    """Makes mmengine load checkpoints by :func:`fetch_checkpoint` in this process.

    mmengine itself unpickles: OpenMMLab's always, the maintained fork where ``weights_only`` fails.
    What is replaced is the loading of files and URLs, also of those that go by a name
    (``torchvision://resnet50``). Files on other stores are refused.

    Args:
        trust_pickle: See :func:`read_checkpoint`.
    """

    def load(filename: str, map_location: Any = None, **kwargs: Any) -> dict:
        checkpoint = fetch_checkpoint(filename, trust_pickle)
        if not trust_pickle and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # mmengine would run this text when resuming
        return checkpoint

    def refuse(filename: str, map_location: Any = None) -> dict:
        raise UnsafeCheckpointError(
            f'{filename} would be unpickled, which runs whatever code it holds: download it and '
            'give the file, or trust it explicitly (--trust-checkpoint of tools/train.py and '
            'tools/test.py).'
        )

    for prefix in ('', 'http://', 'https://'):
        CheckpointLoader.register_scheme(prefix, load, force=True)
    mmengine_checkpoint.load_from_http = load
    stores = {
        r'(\S+\:)?s3://': mmengine_checkpoint.load_from_ceph,
        r'(\S+\:)?petrel://': mmengine_checkpoint.load_from_ceph,
        'pavi://': mmengine_checkpoint.load_from_pavi,
    }
    for prefix, unrestricted in stores.items():
        loader = unrestricted if trust_pickle else refuse
        CheckpointLoader.register_scheme(prefix, loader, force=True)


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
        checkpoint: What to write. A ``.safetensors`` file gets the state dict alone.
        path: ``.pth``, ``.pt`` or ``.safetensors`` file.
    """
    with atomic_path(path) as part:
        if os.fspath(path).endswith('.safetensors'):
            from safetensors.torch import save_file

            state = unwrap_state_dict(checkpoint)
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, part)
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
    candidates = [find_latest_checkpoint(str(folder))] if folder.is_dir() else []
    candidates = [Path(path) for path in candidates if path]
    candidates += [folder / path.name for path in candidates]
    saved = (path for kind in ('epoch', 'iter') for path in folder.glob(f'{kind}_*.pth'))
    candidates += sorted(saved, key=lambda path: path.stat().st_mtime, reverse=True)
    # The directory of an archive is at its end.
    whole = (path for path in candidates if path.is_dir() or _is_archive(path))
    return next(map(str, whole), None)
