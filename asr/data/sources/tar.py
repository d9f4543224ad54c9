"""Reads the members of an uncompressed tar one after the other: with hostile headers too it moves forward or ends.

Python's ``tarfile`` goes where a header sends it: backwards for ever, into a recursion, to a name of a terabyte.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER_BYTES = 1 << 20  # of a name, or of what pax says about a file; real ones are of some hundred bytes
MAX_HEADERS = 16  # in front of one file, where writers put one or two

_ZEROS = bytes(BLOCK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_MORE, _MORE_IN_EXTENSION = 482, 504  # where GNU says that a block with more holes follows


class TarMember(NamedTuple):
    """A file of a tar: its name, where its bytes lie, and whether holes are left out of those.

    A link has the bytes of its target; ``link`` is the target's name where that is no file earlier in the tar.
    """

    name: str
    offset: int
    size: int
    sparse: bool
    link: str = ""


class Source(Protocol):
    """A binary file that can be read at any position."""

    def seek(self, offset: int, /) -> int:
        """Move to a byte."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, fewer at the end."""


class BrokenTar(Exception):
    """The tar cannot be read on: from byte ``at`` on it is cut, or no tar. ``ended``: behind zeros that end a tar."""

    def __init__(self, at: int, why: str, ended: bool = False) -> None:
        super().__init__(at, why, ended)
        self.at, self.why, self.ended = at, why, ended


def members(file: Source) -> Iterator[TarMember]:
    """Yield the files of a tar and of those that are joined on to it, each of which ends with a block of zeros.

    Raises BrokenTar where there is none, and where something else follows.
    """
    walk = _Walk(file)
    while (found := walk.next()) is not None:
        if found.name:
            yield found


class _Walk:
    def __init__(self, file: Source) -> None:
        self.file, self.at = file, 0
        self.files: dict[str, TarMember] = {}

    def next(self) -> TarMember | None:
        """Return the next file, one without a name for what is no file, None at the end."""
        ended = self._pass_zeros()
        if ended and self._is_at_end():
            return None
        begin, said = self.at, dict[str, str]()
        for _ in range(MAX_HEADERS):
            block = self._read(BLOCK, begin)
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError as error:
                raise BrokenTar(begin, str(error), ended) from None
            if info.type in _NAMES:
                said[_NAMES[info.type]] = _text(self._header(info.size, begin).partition(b"\0")[0])
            elif info.type in (*_PAX, tarfile.XGLTYPE):
                told = _records(self._header(info.size, begin), begin)
                said |= told if info.type in _PAX else {}  # what is said for all files is no name and no size
            else:
                return self._member(info, block, said, begin)
        raise BrokenTar(begin, f"over {MAX_HEADERS} headers for one file")

    def _member(self, info: tarfile.TarInfo, block: bytes, said: Mapping[str, str], begin: int) -> TarMember:
        sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in said)
        more = info.type == tarfile.GNUTYPE_SPARSE and block[_MORE]
        while more:
            more = self._read(BLOCK, begin)[_MORE_IN_EXTENSION]
        size = _size(said["size"], begin) if "size" in said else info.size
        if size < 0:
            raise BrokenTar(begin, f"a file of {size} bytes")
        offset, name = self.at, said.get("GNU.sparse.name") or said.get("path") or info.name
        if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
            self.at += _padded(size)
        if info.islnk() or info.issym():
            target = said.get("linkpath") or info.linkname
            folder = posixpath.dirname(name) if info.issym() else ""
            found = self.files.get(posixpath.normpath(posixpath.join(folder, target)))
            member = found._replace(name=name) if found else TarMember(name, offset, 0, False, target or "nothing")
        else:
            member = TarMember(name if info.isreg() else "", offset, size, sparse)
        if member.name and not member.link:
            self.files[posixpath.normpath(name)] = member
        return member

    def _pass_zeros(self) -> bool:
        """Go past the zeros that end a tar, behind which another one may be; return whether there were any."""
        begin = self.at
        while self._peek() == _ZEROS:
            self.at += BLOCK
        return self.at > begin

    def _is_at_end(self) -> bool:
        return not self._peek().strip(b"\0")

    def _peek(self) -> bytes:
        try:
            self.file.seek(self.at)
        except (ValueError, OverflowError, OSError):  # behind what a file can have: whoever reads it says so
            return b""
        return self.file.read(BLOCK)

    def _header(self, size: int, begin: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise BrokenTar(begin, f"a header of {size} bytes")
        return self._read(_padded(size), begin)[:size]

    def _read(self, size: int, begin: int) -> bytes:
        try:
            self.file.seek(self.at)
        except (ValueError, OverflowError, OSError) as error:  # behind what a file can have
            raise BrokenTar(begin, f"no byte {self.at}: {error}") from None
        data = self.file.read(size)
        if len(data) < size:
            raise BrokenTar(begin if size == BLOCK else self.at, "it ends before its end")
        self.at += size
        return data


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _records(data: bytes, at: int) -> dict[str, str]:
    """Return what pax says about a file: lines of ``LENGTH KEY=VALUE``, where the length is that of the line."""
    said, begin = dict[str, str](), 0
    while begin < len(data) and data[begin]:
        digits, space, _ = data[begin : begin + 9].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 2 <= int(digits) <= len(data) - begin:
            raise BrokenTar(at, "no header as pax writes it")
        key, _, value = data[begin + len(digits) + 1 : begin + int(digits) - 1].partition(b"=")
        said[_text(key)] = _text(value)
        begin += int(digits)
    return said


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _size(text: str, at: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BrokenTar(at, f"a file of {text[:20]} bytes")
    return int(text)
