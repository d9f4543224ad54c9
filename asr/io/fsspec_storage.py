"""Storage that fsspec reaches (``ftp://``, ``sftp://``, ``hf://`` ...), as pyarrow's; each fault is one line."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from asr.errors import UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from fsspec import AbstractFileSystem
    from pyarrow.fs import FileSystem

# fsspec has a name for each, but none is a place to keep files: web pages cannot be listed, the others are a view of
# something else, or of this machine.
_NO_STORAGE = frozenset(
    {"http", "https", "data", "local", "asynclocal", "async_wrapper", "asyncwrapper", "generic"}
) | {
    *("blockcache", "cached", "filecache", "simplecache", "dir", "reference", "zip", "tar", "libarchive", "dask"),
    *("git", "github", "gist", "jlab", "jupyter", "pyscript"),
}
_CLIENTS = frozenset(
    {"ftplib", "paramiko", "smbprotocol", "webdav4", "httpx", "httpx2", "botocore", "google", "azure", "ossfs"}
)


@cache
def fsspec_filesystem(scheme: str, authority: str) -> FileSystem:
    """Return the file system of an address, one per process and host: ``url_to_fs`` reads host and user off it.

    Passwords and the like are fsspec's own settings (``FSSPEC_FTP_PASSWORD``, ``~/.config/fsspec``): an address is
    kept beside every result. Raises UserError for what is no storage, or does not answer.
    """
    from fsspec.core import url_to_fs

    address = f"{scheme}://{authority}"
    user, _, host = authority.rpartition("@")
    if ":" in user:
        setting = f"FSSPEC_{scheme.upper()}_PASSWORD"
        raise UserError(f"'{scheme}://...@{host}': an address holds no password", f"set {setting} on every node")
    if scheme in _NO_STORAGE:
        raise UserError(f"'{address}' cannot be read: {scheme}:// is no storage", "copy it to a folder or a bucket")
    try:
        return _as_pyarrows(url_to_fs(f"{address}/")[0])
    except ImportError as error:
        raise UserError(f"'{address}' cannot be read: {one_line(error)}", "install that on every node") from None
    except ValueError as error:
        what = "no storage is called so" if "not known" in str(error) else one_line(error)
        raise UserError(f"'{address}' cannot be read: {what}", _known()) from None
    except TypeError as error:  # a class of fsspec's that wants more than addresses say
        hint = f"set what it asks for as FSSPEC_{scheme.upper()}_..., on every node"
        raise UserError(f"'{address}' cannot be read: {one_line(error)}", hint) from None
    except Exception as error:  # the host's answer, or none: some clients connect at once, each with errors of its own
        if not isinstance(error, OSError) and not client_error(error):
            raise
        raise UserError(f"'{address}' cannot be reached: {one_line(error)}", "look at host, port and user") from None


def _as_pyarrows(filesystem: AbstractFileSystem) -> FileSystem:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    class Handler(FSSpecHandler):
        """Makes the folders that a file is written into, as buckets do: on a server they have to be there."""

        def open_output_stream(self, path: str, metadata: Mapping[str, str] | None) -> pa.PythonFile:
            if "memory" not in self.fs.protocol:  # which needs none, and would keep them when the file has gone
                self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return super().open_output_stream(path, metadata)

    return PyFileSystem(Handler(filesystem))


def client_error(error: Exception) -> bool:
    """Return whether an error is a refusal by a storage's client that is not an OSError."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def _known() -> str:
    import fsspec

    names = sorted(set(fsspec.available_protocols()) - _NO_STORAGE - {"file", "memory"})
    return f"use a path, or one of {', '.join(names)}"
