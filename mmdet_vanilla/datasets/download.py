"""Downloads that continue where they stopped, are checked, and stay inside of their folder."""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import posixpath
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from ..utils.errors import UserError

_BLOCK = 1 << 20
_TIMEOUT = 30.0
# Of what an archive may hold unpacked; deflate itself reaches 1000, photographs about 1.
LARGEST_RATIO = 50
SMALL_ARCHIVE = 100_000_000

# What reading a damaged archive raises.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)

Progress = Callable[[int, int | None], object]


class DownloadError(UserError, OSError):
    """A file could not be downloaded, is not what it should be, or cannot be unpacked."""


def fetch(
    url: str,
    path: Path,
    md5: str | None = None,
    progress: Progress = lambda done, total: None,
    attempts: int = 3,
    pause: float = 2.0,
) -> Path:
    """Downloads a file, unless it is there already.

    What has come stays in ``PATH.part`` when the connection breaks, and the next attempt, in this
    call or in a later one, asks for the rest only.

    Args:
        url: http(s) URL.
        path: File to write; it holds the whole, checked file or does not exist.
        md5: Expected MD5 in hexadecimal; not checked without.
        progress: Called with the bytes that are there and the total, if the server tells.
        attempts: Attempts without any progress before giving up.
        pause: Seconds before the first repetition; each further one waits twice as long.

    Returns:
        ``path``.

    Raises:
        DownloadError: If the server cannot be reached or answers with an error, the disk is full,
            there is no place for the file, or it has another checksum.
    """
    if path.is_file():
        return path
    part = path.with_name(path.name + '.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f'{path.parent} cannot be made a folder to download to: {error.strerror}.'
        ) from None
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(url, part, before, progress)
            break
        except urllib.error.HTTPError as error:
            raise DownloadError(
                f'{url} answers {error.code} {error.reason}: it may have moved. Download it by '
                f'hand to {path}.'
            ) from None
        except (ValueError, http.client.InvalidURL) as error:
            raise DownloadError(
                f'{url} is not an address: {error}. Expected http(s)://...'
            ) from None
        except (urllib.error.URLError, OSError, EOFError, http.client.HTTPException) as error:
            reason = getattr(error, 'reason', error)
            if getattr(error, 'errno', None) == 28:
                raise DownloadError(
                    f'no space left for {path}: what was downloaded stays in {part}. Make room and '
                    'start again.'
                ) from None
            after = part.stat().st_size if part.is_file() else 0
            failures = failures + 1 if after == before else 1
            if failures >= attempts:
                raise DownloadError(
                    f'{url} cannot be downloaded: {reason}. Is this machine online, and does it '
                    f'need a proxy (https_proxy)? Started again, the download goes on after '
                    f'{after} bytes; or put the file to {path} by hand.'
                ) from None
            time.sleep(pause * 2 ** (failures - 1))
    if md5 is not None:
        found = checksum(part)
        if found != md5:
            part.unlink()
            raise DownloadError(
                f'{url}: the MD5 is {found}, expected {md5}. The file was damaged on its way or '
                'has changed; it was removed. Start again.'
            )
    os.replace(part, path)
    return path


def _receive(url: str, part: Path, start: int, progress: Progress) -> None:
    """Appends what is missing of a file.

    Raises:
        EOFError: If the connection ended before the file did.
        http.client.HTTPException: Likewise, or if the answer is malformed.
    """
    request = urllib.request.Request(url, headers={'User-Agent': 'mmdet_vanilla'})
    if start:
        request.add_header('Range', f'bytes={start}-')
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # nothing is missing, or the file has become shorter
            total = (error.headers.get('Content-Range') or '').rpartition('/')[2]
            if total == str(start):
                return
            part.unlink()
            raise EOFError('the file on the server has changed') from None
        raise
    with response:
        if start and response.status != 206:  # a server that always sends everything
            start = 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length and length.isdecimal() else None
        done = start
        with open(part, 'ab' if start else 'wb') as file:
            progress(done, total)
            # ``read`` loses what has come of a chunk that breaks off.
            read = response.read1 if getattr(response, 'chunked', False) else response.read
            while block := read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(done, total)
    if total is not None and done < total:
        raise EOFError(f'the connection ended after {done} of {total} bytes')


def checksum(path: Path) -> str:
    """MD5 of a file in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack(
    archive: Path,
    folder: Path,
    largest_ratio: float = LARGEST_RATIO,
    progress: Progress = lambda done, total: None,
) -> None:
    """Unpacks a zip archive; files that are there in full already are kept.

    Args:
        archive: The archive.
        folder: Where to.
        largest_ratio: Most unpacked bytes per packed one. Archives that unpack to less than 100 MB
            are not judged by it.
        progress: Called with the bytes that are done and the total.

    Raises:
        DownloadError: If it is damaged, would write outside of the folder, holds links, would
            become too large, or there is no space for it.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            _check_members(archive, members, total, largest_ratio)
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            missing = [m for m in members if not _is_there(folder, m)]
            needed = sum(member.file_size for member in missing)
            if needed > free:
                raise DownloadError(
                    f'{archive} needs {needed} bytes in {folder}, and {free} are free: make room.'
                )
            done = total - needed
            for member in missing:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + '.part')
                with content.open(member) as source, open(part, 'wb') as file:
                    # Not beyond what the archive says, and zipfile checks that it is as much.
                    shutil.copyfileobj(source, file, _BLOCK)
                os.replace(part, target)
                done += member.file_size
                progress(done, total)
    except _DAMAGE as error:
        raise DownloadError(f'{archive} is a damaged archive: {error}. Remove it.') from None
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f'{archive} cannot be unpacked to {folder}: {error}.') from None


def _is_there(folder: Path, member: zipfile.ZipInfo) -> bool:
    target = folder / member.filename
    return target.is_file() and target.stat().st_size == member.file_size


def _check_members(
    archive: Path, members: list[zipfile.ZipInfo], total: int, largest_ratio: float
) -> None:
    for member in members:
        name = posixpath.normpath(member.filename.replace('\\', '/'))
        if name.startswith(('/', '../')) or name == '..' or ':' in name.split('/')[0]:
            raise DownloadError(
                f'{archive} would write outside of its folder: {member.filename!r}.'
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DownloadError(f'{archive} holds a link, {member.filename!r}, which is refused.')
    packed = archive.stat().st_size
    if total > max(SMALL_ARCHIVE, largest_ratio * packed):
        raise DownloadError(
            f'{archive} has {packed} bytes and would become {total}: as archives of photographs do '
            f'not shrink by more than {largest_ratio:g}, this may be a bomb. If you trust it, '
            'raise the limit by --largest-ratio.'
        )
