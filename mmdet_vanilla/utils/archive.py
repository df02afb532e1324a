"""The zip archives that ``torch.save`` writes, read so strictly that there is but one reading."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

MAGIC = b'PK\3\4'
_DIRECTORY_END = struct.Struct('<4s4H2LH')
_DIRECTORY_END64 = struct.Struct('<4sQ2H2L4Q')
_LOCATOR64 = struct.Struct('<4sLQL')
_ENTRY = struct.Struct('<4s6H3L5H2L')
_LOCAL = struct.Struct('<4s5H3L2H')
_MOST16, _MOST32 = 0xFFFF, 0xFFFFFFFF


class ArchiveError(Exception):
    """An archive that is damaged, or that could be read in two ways."""


class Entry(NamedTuple):
    """Where the bytes of an entry are, and whether they are packed or encrypted."""

    offset: int
    size: int
    packed: bool


def read_directory(file: BinaryIO) -> dict[str, Entry]:
    """The entries of an archive, which readers with other habits would read alike.

    One directory, at the very end; nothing before the first entry or behind a directory; no name
    twice, in no case of letters; entries that do not overlap.

    Args:
        file: The file.

    Returns:
        Entries by name.

    Raises:
        ArchiveError: If it is no such archive.
    """
    size = file.seek(0, 2)
    try:
        start, number, end = _find_directory(file, size)
        file.seek(start)
        entries = _read_entries(file, file.read(end - start), number)
    except (struct.error, UnicodeDecodeError) as error:
        raise ArchiveError(f'its directory is damaged ({error})') from None
    position = 0
    for header, entry in sorted(entries.values()):
        _require(header >= position, 'two entries overlap')
        position = entry.offset + entry.size
    _require(position <= start, 'an entry overlaps the directory')
    return {name: entry for name, (_, entry) in entries.items()}


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the directory begins, the number of its entries, and where it ends."""
    end = size - _DIRECTORY_END.size
    sign, *disks, here, number, length, start, comment = _unpack(file, end, _DIRECTORY_END)
    _require(sign == b'PK\5\6' and comment == 0, 'its end is cut off')
    _require(not any(disks) and here == number, 'it is a part of a larger one')
    at = end - _LOCATOR64.size
    locator = _unpack(file, at, _LOCATOR64) if at > 0 else (b'',)
    if locator[0] == b'PK\6\7':
        end = at - _DIRECTORY_END64.size
        _require(locator[1:] == (0, end, 1), 'it has two directories')
        sign, room, _, _, disk, first, here, *large = _unpack(file, end, _DIRECTORY_END64)
        _require(sign == b'PK\6\6' and room == 44 and disk == first == 0, 'it has two directories')
        _require(here == large[0], 'it is a part of a larger one')
        for value, most, other in zip((number, length, start), (_MOST16, *[_MOST32] * 2), large):
            _require(value in (most, other), 'it has two directories')
        number, length, start = large
    _require(start + length == end, 'its directory is not at its end')
    return start, number, end


def _read_entries(file: BinaryIO, directory: bytes, number: int) -> dict[str, tuple[int, Entry]]:
    """By name, where the entry's own header is, and its bytes."""
    entries, seen, position = {}, set(), 0
    while position < len(directory):
        (sign, _, _, flags, method, _, _, _, length, size, *lengths, disk, _, _, header) = (
            _ENTRY.unpack_from(directory, position)
        )
        _require(sign == b'PK\1\2' and disk == 0, 'its directory is damaged')
        position += _ENTRY.size
        name, extra, comment = _cut(directory, position, lengths)
        position += sum(lengths)
        size, length, header = _large(extra, [size, length, header])
        packed = bool(method or flags & 1)
        _require(packed or size == length, f'{name} has two sizes')
        _require(not comment and b'\0' not in name, 'its directory is damaged')
        folded = name.lower()
        _require(folded not in seen, f'it holds {name} twice')
        seen.add(folded)
        local, *_, name_length, extra_length = _unpack(file, header, _LOCAL)
        _require(local == MAGIC and file.read(name_length) == name, f'{name} has two names')
        offset = header + _LOCAL.size + name_length + extra_length
        entries[name.decode()] = header, Entry(offset, length, packed)
    _require(len(entries) == number, 'its directory is damaged')
    return entries


def _cut(data: bytes, position: int, lengths: list[int]) -> list[bytes]:
    parts = []
    for length in lengths:
        parts.append(data[position : position + length])
        position += length
    _require(position <= len(data), 'its directory is damaged')
    return parts


def _large(extra: bytes, values: list[int]) -> list[int]:
    """Sizes and position, those of 32 bits or, where these say so, those of 64."""
    needed = sum(value == _MOST32 for value in values)
    fields = []
    while extra:
        kind, length = struct.unpack_from('<2H', extra)
        _require(len(extra) >= 4 + length, 'its directory is damaged')
        if kind == 1:
            fields.append(extra[4 : 4 + length])
        extra = extra[4 + length :]
    _require(len(fields) == (needed > 0), 'its directory is damaged')
    if needed:
        large = list(struct.unpack(f'<{needed}Q', fields[0]))
        values = [large.pop(0) if value == _MOST32 else value for value in values]
    return values


def _unpack(file: BinaryIO, position: int, form: struct.Struct) -> tuple:
    _require(position >= 0, 'it is cut off')
    file.seek(position)
    return form.unpack(file.read(form.size))


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ArchiveError(otherwise)
