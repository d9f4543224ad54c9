"""Errors that no second try mends: no space, quota, read-only, no permission; found out here for all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from asr.errors import UserError
from asr.io.folders import require_writable

GO_ON = "the same command goes on"

_NO_SPACE = "no space left"
_WHAT = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: "over the disk quota",
    errno.EROFS: "a read-only file system",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EFBIG: "a file larger than is allowed (ulimit -f)",
    errno.ENAMETOOLONG: "a name that is too long",
}
_DO = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or have the quota raised",
    errno.EROFS: "have it mounted for writing, or name another place",
    errno.EACCES: "have the permissions changed, or name another place",
    errno.EPERM: "have the permissions changed, or name another place",
    errno.EFBIG: "have the limit raised",
    errno.ENAMETOOLONG: "choose a shorter one",
}
# As the clouds, pyarrow, safetensors (Rust) and torch (C++) say it, who keep no errno or an own one.
_SAID = (
    (re.compile(r"no space left on device|not enough space|os error 28\b|errno 28\b", re.I), errno.ENOSPC),
    (re.compile(r"PytorchStreamWriter failed writing|inline_container.*unexpected pos", re.I), errno.ENOSPC),
    (re.compile(r"quota.?exceeded|os error 122\b|errno 122\b", re.I), errno.EDQUOT),
    (re.compile(r"read-only file system|os error 30\b|errno 30\b", re.I), errno.EROFS),
    (
        re.compile(r"permission denied|access.?denied|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH", re.I),
        errno.EACCES,
    ),
    (re.compile(r"file too large|os error 27\b|errno 27\b", re.I), errno.EFBIG),
    (re.compile(r"file name too long", re.I), errno.ENAMETOOLONG),
)
_PATH = re.compile(r"'((?:/|[a-z0-9]+://)[^']+)'")
# Sockets, processes and devices deny permission in the same words, so a file has to be named, or a cloud has to speak.
_ABOUT_FILES = re.compile(
    r"\bAWS\b|ACCESS_?DENIED|\bbucket\b|\bS3\b|\bGCS\b|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES", re.I
)
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST})  # where the one to write in is not there
_TELLING = frozenset({"SafetensorError", "RayTaskError", "UserExceptionWithTraceback", "ArrowException", "ClientError"})
_BY_RUST = re.compile(r"\(os error \d+\)$")
_MOST = 2000  # characters of a message that are looked at


def unretryable(error: BaseException, uri: str = "", what: str = "", then: str = GO_ON) -> UserError | None:
    """Return what a person must do about an error, or None where another try may do better, or it is a bug.

    That is a UserError itself, or a disk that is full and the like, however deep: behind ``raise from``, in what Ray
    sends back from other processes, or as another library's text. ``uri`` is what was being written, where the error
    does not say, ``what`` what was (a checkpoint of 3 MB), ``then`` what to do once it is mended.
    """
    causes = list(_causes(error))
    mistake = next((one for one in causes if type(one) is UserError), None)
    if mistake is not None:
        return mistake
    for one in causes:
        number = _errno(one)
        if number is not None:
            named = _named_by(one, uri)
            wanted = f" for {what}" if what else ""
            free = _free(named) if number == errno.ENOSPC else ""
            where = f"{named}: " if named else ""
            return UserError(f"{where}{_WHAT[number]}{wanted}{free}", f"{_DO[number]}: {then}")
    return None


@contextmanager
def writing(uri: str | Path, what: str = "", then: str = GO_ON) -> Iterator[None]:
    """Make an error of the block that no second try mends a UserError, which names ``uri``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        mistake = unretryable(error, str(uri), what, then) or _without_folder(error, str(uri))
        if mistake is None:
            raise
        raise mistake from error


def _without_folder(error: Exception, uri: str) -> UserError | None:
    """Return what to do where the folder to write in is not there, cannot be made or is a file; None for all else."""
    if not isinstance(error, OSError) or error.errno not in _FOLDER or "://" in uri:
        return None
    named = _named_by(error, "")
    if named and not (_is_in(named, uri) or _is_in(uri, named) or _is_beside(named, uri)):
        return None  # something else, that was to be read
    path = Path(os.path.abspath(named or uri))
    # Of a file in the folder that is not there nobody knows here whether it was to be written or to be read.
    itself = error.errno != errno.ENOENT or (named and _is_in(uri, named))
    for folder in (*reversed(path.parents), *([path] if itself else [])):
        if folder.exists() and not folder.is_dir():
            return UserError(f"{folder}: a file is where a folder should be", "name another place")
        if not folder.exists():
            if folder == path:
                return UserError(f"{folder}: no such folder, and it cannot be made", "name another place")
            return UserError(f"{folder}: no such folder", "make it, or name another place")
    return _without_files(path.parent) if error.errno == errno.ENOENT else None


def _without_files(folder: Path) -> UserError | None:
    """Return what to do where a folder takes no files, as /proc, which says of them that they are not there."""
    try:
        require_writable(folder)
    except OSError:
        return UserError(f"{folder}: no file can be made there", "name another place")
    return None


def _is_beside(path: str, other: str) -> bool:
    return os.path.dirname(os.path.abspath(path)) == os.path.dirname(os.path.abspath(other))


def _is_in(path: str | Path, folder: str | Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, the outermost first."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inside: list[object] = [getattr(one, name, None) for name in ("cause", "_base_exc", "controller_failure")]
        failures = getattr(one, "worker_failures", None)
        inside += list(failures.values()) if isinstance(failures, Mapping) else []
        inside += one.exceptions if isinstance(one, BaseExceptionGroup) else []
        inside.append(one.__cause__)
        if not one.__suppress_context__ and _tells(one):  # what a bug came up beside is no excuse for it
            inside.append(one.__context__)
        waiting += [other for other in inside if isinstance(other, BaseException)]


def _errno(error: BaseException) -> int | None:
    number = _number(error)
    return None if number in _DENIED and not _is_about_files(error) else number


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _WHAT:
            return error.errno
        if error.errno not in (0, errno.EIO):
            return None
    if not _tells(error):
        return None
    text = _text(error)
    return next((number for pattern, number in _SAID if pattern.search(text)), None)


def _text(error: BaseException) -> str:
    text = str(error)
    if "Traceback (most recent call last)" in text:  # which quotes lines of code
        text = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return text[:_MOST]


def _is_about_files(error: BaseException) -> bool:
    """Return whether what was denied is a file's or a bucket's matter."""
    if getattr(error, "filename", None) is not None:
        return True
    text = _text(error)
    if _by_rust(error):
        return True
    by_os = isinstance(error, OSError) or type(error).__name__ in _TELLING or "Error: [Errno " in text
    return by_os and bool(_PATH.search(text) or _ABOUT_FILES.search(text))


def _tells(error: BaseException) -> bool:
    """Return whether an error's text may tell of a disk."""
    return _by_rust(error) or isinstance(error, OSError | RuntimeError) or type(error).__name__ in _TELLING


def _by_rust(error: BaseException) -> bool:
    """Return whether it is an error of tokenizers, which has no class of its own, about a file it does not name."""
    return type(error) is Exception and bool(_BY_RUST.search(str(error)))


def _named_by(error: BaseException, uri: str) -> str:
    """Return what the error is about: the file that it names, unless that is part of ``uri``."""
    named = next((name for name in (getattr(error, "filename2", None), getattr(error, "filename", None)) if name), None)
    if named is None and (found := _PATH.search(str(error))):
        named = found[1]
    if isinstance(named, bytes):
        named = os.fsdecode(named)
    if not isinstance(named, str):
        return uri
    return uri if uri and _is_in(named, uri) else named


def _free(uri: str) -> str:
    """Return the free space at a local path. A bucket's, as pyarrow has it, is relative and not on this machine."""
    path = Path(uri)
    while not path.exists() and path != path.parent:
        path = path.parent
    if not uri or (path == Path() and os.sep in uri):
        return ""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return ""
    return f", {usage.free / 1e6:,.1f} of {usage.total / 1e6:,.0f} MB are free"
