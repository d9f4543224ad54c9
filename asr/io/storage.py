"""Files anywhere: local, ``s3://``, ``gs://``, ``hf://`` and what else pyarrow or fsspec opens, all in one way.

Every storage that fsspec knows is for the addresses that a person wrote. What rows may name is less: ``ROW_SCHEMES``,
which ``asr.io.roots`` enforces.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from urllib.parse import unquote

from asr.errors import UserError, one_line
from asr.io.folders import local_sizes, require_regular
from asr.io.fsspec_storage import client_error, fsspec_filesystem
from asr.io.text_lines import BoundedText
from asr.io.unretryable import unretryable, writing

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem

# pyarrow's own, which need no Python per byte, and buckets of fsspec's. It knows forty more, with which a word in a
# file would make a cluster call hosts.
ARROW_SCHEMES = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs"})
ROW_SCHEMES = ARROW_SCHEMES | {"hf", "az", "adl", "memory"}
HOW_WRITTEN = (
    "use a path, s3://, gs://, abfs://, hdfs://, hf://, ftp://, sftp://, file:// or another storage of fsspec's"
)

_NAME_CHARACTERS = 50  # of a file's own name in that of its draft: 255 bytes are all that a name may have

_PACKED = (".gz", ".bz2", ".lz4", ".zst")  # what pyarrow unpacks, told by the name

_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<path>.*?)(?P<query>\?[a-z_]+=[^?]*)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file in a folder: its address, its name from the folder on (``clips/a.mp3``) and its size."""

    uri: str
    name: str
    bytes: int


def is_remote(uri: str | Path) -> bool:
    """Return whether ``uri`` is an address of something else than a local file. ``file://`` addresses are local."""
    return "://" in str(uri) and not str(uri).startswith("file://")


def local_path(uri: str | Path) -> str:
    """Return the path that a local path or ``file://`` address means."""
    name = str(uri)
    return unquote(name.removeprefix("file://")) if name.startswith("file://") else name


def resolve(uri: str | Path) -> tuple[FileSystem, str]:
    """Return the pyarrow file system of ``uri``, one per process and bucket, and the path within it.

    The path of an address is taken as written, as the clouds' own tools do: ``%20`` is no space. S3's endpoint and
    credentials come from the usual ``AWS_*`` variables, or from pyarrow's query: ``s3://bucket/x?endpoint_override=
    127.0.0.1:9000&scheme=http``. Raises UserError for an address that nothing here opens, OSError where a bucket does
    not answer.
    """
    if not is_remote(uri):
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), os.path.abspath(local_path(uri))
    scheme, authority, path, query = parts(str(uri))
    if scheme in ARROW_SCHEMES:
        filesystem, root = _arrow_filesystem(f"{scheme}://{authority}{query}")
        return filesystem, f"{root.rstrip('/')}/{path.lstrip('/')}".rstrip("/")
    filesystem = fsspec_filesystem(scheme, authority)
    return filesystem, filesystem.handler.fs._strip_protocol(str(uri))


def parts(uri: str) -> tuple[str, str, str, str]:
    """Return an address as its scheme, authority, path and query. Raises UserError for what is none."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise UserError(f"'{uri}' is no address that can be read", HOW_WRITTEN)
    return match["scheme"].lower(), match["authority"], match["path"], match["query"] or ""


@cache
def _arrow_filesystem(root: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(root)
    except ValueError as error:
        raise UserError(f"'{root}' is no address that can be read: {one_line(error)}") from None
    return filesystem, path


def join(uri: str | Path, *names: str) -> str:
    """Return ``uri/name/...``; the query of an address stays at its end.

    A last name that is absolute, or an address, stands for itself. Raises UserError for a name that
    would be read as a query: who calls a file so is not who chooses hosts.
    """
    return names[-1] if names and ("://" in names[-1] or names[-1].startswith("/")) else _below(uri, *names)


def _below(uri: str | Path, *names: str) -> str:
    if not is_remote(uri):
        return os.path.join(local_path(uri), *names)
    match = _URI.fullmatch(str(uri))
    query = (match and match["query"]) or ""
    joined = "/".join([str(uri).removesuffix(query).rstrip("/"), *names]) + query
    match = _URI.fullmatch(joined)
    if match and (match["query"] or "") != query:
        raise UserError(f"'{joined}' is a file whose name says how storage is to be reached", "rename it")
    return joined


def name_of(uri: str | Path) -> str:
    """Return the last part of a path or address, without the query: ``train.tsv``."""
    match = _URI.fullmatch(str(uri)) if is_remote(uri) else None
    return ((match["path"] if match else local_path(uri)).rstrip("/")).rpartition("/")[2]


def parent(uri: str | Path) -> str:
    """Return the folder of a path or address; the query stays."""
    if not is_remote(uri):
        return os.path.dirname(os.path.abspath(local_path(uri)))
    match = _URI.fullmatch(str(uri))
    query = (match and match["query"]) or ""
    return str(uri).removesuffix(query).rstrip("/").rpartition("/")[0] + query


def kind(uri: str | Path) -> str:
    """Return ``file``, ``folder`` or ``""`` for nothing. Raises UserError where the storage does not answer."""
    with explained(uri, "cannot be reached"):
        filesystem, path = resolve(uri)
        info = filesystem.get_file_info(path)
    return "file" if info.is_file else "folder" if info.type.name == "Directory" else ""


def exists(uri: str | Path) -> bool:
    """Return whether there is a file or folder at ``uri``. Raises UserError if the storage does not answer."""
    return kind(uri) != ""


def list_files(uri: str | Path, recursive: bool = True) -> list[FileEntry]:
    """Return the files in a folder, sorted by name; one request per thousand files. Hidden ones are left out.

    Raises UserError where the folder is not there or the storage does not answer.
    """
    return [entry for entry in _entries(uri, recursive) if entry.bytes >= 0]


def list_folders(uri: str | Path) -> list[str]:
    """Return the names of the folders in a folder, sorted. Raises UserError like ``list_files``."""
    return [entry.name for entry in _entries(uri, False) if entry.bytes < 0]


def _entries(uri: str | Path, recursive: bool) -> list[FileEntry]:
    with explained(uri, "cannot be listed"):
        sizes = _remote_sizes(uri, recursive) if is_remote(uri) else local_sizes(local_path(uri), recursive)
        return [
            FileEntry(_below(uri, name), name, size)
            for name, size in sorted(sizes)
            if not any(part.startswith(".") for part in name.split("/"))
        ]


def _remote_sizes(uri: str | Path, recursive: bool) -> Iterator[tuple[str, int]]:
    """Yield the names of files and folders below an address, and the size of a file, -1 of a folder."""
    from pyarrow.fs import FileSelector

    filesystem, root = resolve(uri)
    begin = len(root.rstrip("/")) + 1
    for info in filesystem.get_file_info(FileSelector(root, recursive=recursive)):
        yield info.path[begin:].rstrip("/"), info.size if info.is_file else -1


def open_input(uri: str | Path) -> NativeFile:
    """Return a pyarrow file open for reading at any position. Raises OSError, FileNotFoundError first of all."""
    filesystem, path = _readable(uri)
    return filesystem.open_input_file(path)


def _readable(uri: str | Path) -> tuple[FileSystem, str]:
    filesystem, path = resolve(uri)
    if not is_remote(uri):
        require_regular(path)
    return filesystem, path


@contextmanager
def open_text(uri: str | Path) -> Iterator[TextIO]:
    """Yield a UTF-8 file to read line by line, within the bounds of ``text_lines``; ``.gz`` and such are unpacked.

    Raises UserError for a file that is not there, is a folder, or turns out not to be UTF-8 on the way.
    """
    with explained(uri, "cannot be read as UTF-8 text"):
        filesystem, path = _readable(uri)
        size = filesystem.get_file_info(path).size if path.endswith(_PACKED) else None
        with BoundedText(filesystem.open_input_stream(path, buffer_size=1 << 20), str(uri), size) as file:
            yield file


def read_bytes(uri: str | Path) -> bytes:
    """Return the contents of a file. Raises UserError."""
    with explained(uri, "cannot be read"):
        filesystem, path = _readable(uri)
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())


def read_text(uri: str | Path) -> str:
    """Return the contents of a UTF-8 file. Raises UserError."""
    try:
        return read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: cannot be read as UTF-8 text: {error}") from None


def write_bytes(uri: str | Path, data: bytes) -> None:
    """Write a file, and the folders it lies in; it appears whole or not at all. Raises UserError."""
    with explained(uri, "cannot be written"), writing(uri):
        if not is_remote(uri):
            with whole(Path(local_path(uri))) as temporary:
                temporary.write_bytes(data)
            return
        filesystem, path = resolve(uri)
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)


def write_text(uri: str | Path, text: str) -> None:
    """Write a UTF-8 file as ``write_bytes`` does."""
    write_bytes(uri, text.encode())


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside the local ``path`` and move it there if the block ends well.

    The umask decides who may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".{path.name[:_NAME_CHARACTERS]}.{secrets.token_hex(8)}"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield name
        os.replace(name, path)
    except BaseException:
        name.unlink()
        raise


@contextmanager
def explained(uri: str | Path, what: str) -> Iterator[None]:
    """Make an OSError of the block a UserError: ``uri`` is not there, or ``what`` (cannot be read ...) and why."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file or folder") from None
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8; of what Windows wrote: iconv -f CP1252 -t UTF-8, or -f UTF-16"
        raise UserError(f"{uri}: {what}: {one_line(error)}", hint) from None
    except UnicodeEncodeError:
        raise UserError(f"{str(uri)!r}: {what}: its name is no UTF-8", "rename it") from None
    except OSError as error:
        mistake = UserError(f"{uri}: {what}: {one_line(error)}")
        raise unretryable(error, str(uri)) or mistake from None
    except Exception as error:
        if not client_error(error):
            raise
        raise UserError(f"{uri}: {what}: {one_line(error)}") from None
