"""Pages of Parquet files, by their own headers: pyarrow makes room for what those say, whatever the footer does.

A page's header is Thrift's compact form: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SMALL_DICTIONARY = 4 << 20  # walked through for its longest entry; writers' own limit is 1 MiB
_ENTRY_BYTES = 20  # that pyarrow keeps for an entry of a dictionary, beside what is in it
_WINDOW = 64 << 10
_MAX_HEADER = 16 << 20  # pyarrow's
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY = 7
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_MAX_DEPTH = 8

Header = dict[int, Any]
"""A Thrift struct's fields by their numbers: each is as the file says, a number or a struct of its own."""


@dataclass(frozen=True)
class Pages:
    """Unpacked bytes of the pages of a column in a row group, and the number of values they claim to hold."""

    total: int
    largest: int
    """Of the pages with values."""
    dictionary: int
    entry: int
    """The longest value that other pages may name: of the dictionary, or one value's beginning of the next."""
    values: int
    packed: int
    """Bytes in the file."""


def believed(leaf: pq.ColumnChunkMetaData) -> Pages:
    """Return what the footer says of a column's pages."""
    size = max(leaf.total_uncompressed_size, 0)
    return Pages(size, size, 0, size, leaf.num_values, max(leaf.total_compressed_size, 0))


def walk(opened: pa.NativeFile, leaf: pq.ColumnChunkMetaData) -> Pages:
    """Return what the pages of a column in a row group say of themselves. Raises DataError where that is unreadable."""
    total = largest = dictionary = entry = values = 0
    packed = min(leaf.total_compressed_size, opened.size())
    for at, header in _headers(opened, leaf):
        size = header[2]
        total += size
        if header[1] == _DICTIONARY:
            dictionary = max(dictionary, size + _ENTRY_BYTES * _values(header))
            entry = max(entry, _longest(opened, leaf, at, header))
            continue
        largest = max(largest, size)
        values += _values(header)
        encoding = _encoding(header)
        if encoding == _DELTA_BYTE_ARRAY:
            entry = max(entry, total)
    return Pages(total, largest, dictionary, entry, values, packed)


def _headers(opened: pa.NativeFile, leaf: pq.ColumnChunkMetaData) -> Iterator[tuple[int, Header]]:
    """Yield where each page's bytes begin, and its header; like pyarrow, no further than the footer's values go."""
    starts = [leaf.data_page_offset, leaf.dictionary_page_offset]
    at = min((start for start in starts if start is not None and start > 0), default=-1)
    end = min(at + leaf.total_compressed_size, opened.size())
    values = 0
    window, begin = b"", 0
    while 0 < at < end and values < leaf.num_values:
        size = _WINDOW
        while True:
            try:
                if not begin <= at < begin + len(window):
                    raise IndexError
                header, length = _struct(window, at - begin)
                break
            except IndexError:
                if begin == at and len(window) >= min(end - at, _MAX_HEADER):
                    raise _unreadable(leaf) from None
                window, begin = opened.read_at(min(size, end - at), at), at
                if len(window) < min(size, end - at):  # somebody has made the file shorter
                    raise _unreadable(leaf) from None
                size *= 16
        at = begin + length
        if any(type(header.get(field)) is not int or header[field] < 0 for field in (1, 2, 3)):
            raise _unreadable(leaf)
        yield at, header
        values += _values(header) if header[1] != _DICTIONARY else 0
        at += header[3]


def _unreadable(leaf: pq.ColumnChunkMetaData) -> DataError:
    return DataError("malformed_row", f"a page of column '{leaf.path_in_schema:.100}' cannot be read")


def _part(header: Header) -> Header:
    found = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(header[1], -1))
    return found if isinstance(found, dict) else {}


def _values(header: Header) -> int:
    values = _part(header).get(1, 0)
    return values if type(values) is int and values > 0 else 0


def _encoding(header: Header) -> int | None:
    return _part(header).get(2 if header[1] == _DATA else 4)


def _longest(opened: pa.NativeFile, leaf: pq.ColumnChunkMetaData, at: int, header: Header) -> int:
    """Return the length of a dictionary's longest entry, or at most that of all of it."""
    import pyarrow as pa

    size, packed = header[2], header[3]
    if leaf.physical_type != "BYTE_ARRAY":
        return 16
    if size > SMALL_DICTIONARY:
        return int(size)
    data = opened.read_at(packed, at)
    try:
        if leaf.compression != "UNCOMPRESSED":
            codec = leaf.compression.lower()
            data = pa.Codec("lz4_raw" if codec == "lz4" else codec).decompress(data, size, asbytes=True)
    except (OSError, ValueError, pa.ArrowException):
        return int(size)
    longest = place = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        longest, place = max(longest, length), place + 4 + length
    return min(longest, int(size))


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[Header, int]:
    """Return the fields of a Thrift struct by number, and where it ends; of texts and lists nothing.

    Raises IndexError where it goes on behind ``data``.
    """
    fields: Header = {}
    field = 0
    while head := data[at]:
        at += 1
        kind = head & 15
        if head >> 4:
            field += head >> 4
        else:
            field, at = _signed(data, at)
        if field in fields:  # readers differ in which of the two they take
            raise DataError("malformed_row", "a page's header says something twice")
        fields[field], at = (kind == _TRUE, at) if kind in (_TRUE, _FALSE) else _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int | bool | Header | None, int]:
    if kind in _SKIP:
        at = _SKIP[kind](data, at)
        if at > len(data):
            raise IndexError
        return None, at
    if kind == _STRUCT and depth < _MAX_DEPTH:
        return _struct(data, at, depth + 1)
    if kind in (_LIST, _SET, _MAP, _STRUCT) or kind > _STRUCT:
        raise DataError("malformed_row", "a page's header is none that there is")  # no header has these
    return _signed(data, at)


def _binary(data: bytes, at: int) -> int:
    length, at = _varint(data, at)
    return at + length


_SKIP: dict[int, Callable[[bytes, int], int]] = {
    _BYTE: lambda _, at: at + 1,
    _DOUBLE: lambda _, at: at + 8,
    _BINARY: _binary,
}


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise DataError("malformed_row", "a number in a page's header does not end")
