"""Data sets that can be downloaded: where they are, and how they are put in place."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from .download import LARGEST_RATIO, DownloadError, Progress, fetch, unpack
from .user_data import read_splits, repair, write_coco

BCCD_CLASSES = ('RBC', 'WBC', 'Platelets')
_BCCD_IMAGES = 364
# Of names and contents of all photographs; an archive made by GitHub may change, they do not.
_BCCD_DIGEST = '7451b35b4bc59506de9b7dfe3c61fa3b2d67eca56dfc961732188ac7bcce67c9'


class Archive(NamedTuple):
    """A file to download."""

    url: str
    md5: str | None


COCO = 'http://images.cocodataset.org'
ARCHIVES = dict(
    coco2017=(
        Archive(
            f'{COCO}/annotations/annotations_trainval2017.zip', 'f4bbac642086de4f52a3fdda2de5fa2c'
        ),
        Archive(f'{COCO}/zips/val2017.zip', '442b8da7639aecaf257c1dceb8ba8c80'),
        Archive(f'{COCO}/zips/train2017.zip', 'cced6f7f71b7629ddf16f17bbcfab6b2'),
    ),
    bccd=(Archive('https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.zip', None),),
)


def download(
    name: str,
    folder: Path,
    mirror: str | None = None,
    only: str | None = None,
    keep_archives: bool = False,
    largest_ratio: float = LARGEST_RATIO,
    begin: Callable[[str], Progress] = lambda title: lambda done, total: None,
) -> None:
    """Downloads a data set, checks it and puts it where the configs look for it.

    Args:
        name: Key of ``ARCHIVES``.
        folder: ``data/coco`` or ``data/bccd``.
        mirror: URL of a folder with the archives, to take instead of their own servers.
        only: Part of the names of the archives that are wanted, for instance ``'val'``.
        keep_archives: Whether to keep the archives.
        largest_ratio: See :func:`unpack`.
        begin: Called with a title, returns what is called as bytes arrive.

    Raises:
        DownloadError: If anything goes wrong; started again, it goes on from there.
    """
    archives = [a for a in ARCHIVES[name] if only is None or only in a.url.rsplit('/', 1)[-1]]
    if not archives:
        raise DownloadError(f'{name} has no archive with {only!r} in its name.')
    for archive in archives:
        file = archive.url.rsplit('/', 1)[-1]
        done = folder / f'.{file}.done'
        if done.is_file():
            continue
        url = f'{mirror.rstrip("/")}/{file}' if mirror else archive.url
        path = fetch(url, folder / file, archive.md5, begin(f'download {file}'))
        if name == 'bccd':
            raw = folder / 'raw'
            unpack(path, raw, largest_ratio, begin(f'unpack {file}'))
            arrange_bccd(raw, folder)
            shutil.rmtree(raw)
        else:
            unpack(path, folder, largest_ratio, begin(f'unpack {file}'))
        done.touch()
        if not keep_archives:
            path.unlink()


def arrange_bccd(raw: Path, folder: Path) -> None:
    """Puts BCCD's photographs into folders per split, with COCO files, as ``configs/bccd`` wants.

    Args:
        raw: The unpacked archive.
        folder: ``data/bccd``.

    Raises:
        DownloadError: If the photographs are others.
    """
    roots = [path.parent for path in raw.glob('**/ImageSets') if path.is_dir()]
    if len(roots) != 1:
        raise DownloadError(f'{raw} does not look like BCCD: expected one folder ImageSets in it.')
    images = sorted((roots[0] / 'JPEGImages').glob('*.jpg'))
    if len(images) != _BCCD_IMAGES or photograph_digest(images) != _BCCD_DIGEST:
        raise DownloadError(
            f'the {len(images)} photographs of BCCD are not the {_BCCD_IMAGES} expected: the data '
            'set has changed, or the download is damaged.'
        )
    _, splits = read_splits(str(roots[0]))
    for name, split in splits.items():
        split = repair(split)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index, file_name in enumerate(split.file_names):
            shutil.copy2(split.path(index), folder / name / file_name)
        write_coco(split, BCCD_CLASSES, str(folder / f'{name}.json'))


def photograph_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(path.name.encode() + b'\0' + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
