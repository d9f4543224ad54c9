"""Reads what git knows of a folder, so that nothing that the folder itself configures is run."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LINK, SUBMODULE = 0o120000, 0o160000
_TIMEOUT_S = 60
_BLOCK = 1 << 20
# A checkout's own .git/config may name programs: of a file system monitor, of hooks, of a remote that missing objects
# are fetched from. Command-line settings win over it. Filters (.gitattributes) run only where git reads or compares
# the files themselves, which none of the commands below does: contents are compared here.
_SAFE = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false"),
    *("-c", "protocol.allow=never", "--no-pager", "--literal-pathspecs"),
)


class NoGit(Exception):
    """Git is not installed, does not know the folder, or refuses to look at it; the message says which."""


@dataclass(frozen=True)
class IndexEntry:
    """A name in git's index: the mode it has there, and the digest of its content."""

    mode: int
    digest: str


def tracked(root: Path) -> Mapping[str, IndexEntry]:
    """Return what git tracks under ``root``, by its name from there on. Raises NoGit."""
    top = Path(os.fsdecode(_asked(root, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    if not root.resolve().is_relative_to(top.resolve()):  # core.worktree
        raise NoGit(f"its settings say that its files lie in {top}")
    found = {}
    for line in _names(_asked(root, "ls-files", "--cached", "--stage", "-z")):
        described, _, name = line.partition("\t")
        mode, digest, _ = described.split(" ")
        found[name] = IndexEntry(int(mode, 8), digest)
    return found


def untracked(root: Path) -> list[str]:
    """Return what git neither tracks nor ignores under ``root``; a folder of such files is one name with a ``/``."""
    return _names(
        _asked(root, "ls-files", "--others", "--exclude-standard", "--directory", "--no-empty-directory", "-z")
    )


def commit(root: Path) -> str:
    """Return the short name of the commit at ``root``, with ``+`` where tracked files differ from it. Raises NoGit."""
    name = os.fsdecode(_asked(root, "rev-parse", "--short=12", "HEAD")).strip()
    staged = _run(root, "diff-index", "--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=all", "HEAD")
    changed = staged.returncode != 0 or any(_differs(root / path, entry) for path, entry in tracked(root).items())
    return name + "+" * changed


def _differs(path: Path, entry: IndexEntry) -> bool:
    if entry.mode == SUBMODULE:
        return False
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) != (entry.mode == LINK):
            return True
        if entry.mode == LINK:
            return _digest(os.fsencode(os.readlink(path)), entry) != entry.digest
        return not stat.S_ISREG(found.st_mode) or _file_digest(path, found.st_size, entry) != entry.digest
    except OSError:
        return True


def _digest(content: bytes, entry: IndexEntry) -> str:
    return _hash(entry, len(content), content).hexdigest()


def _file_digest(path: Path, size: int, entry: IndexEntry) -> str:
    hashed = _hash(entry, size)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _hash(entry: IndexEntry, size: int, content: bytes = b"") -> hashlib._Hash:
    kind = "sha1" if len(entry.digest) == 40 else "sha256"
    return hashlib.new(kind, b"blob %d\0" % size + content, usedforsecurity=False)


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _asked(root: Path, *argv: str) -> bytes:
    done = _run(root, *argv)
    if done.returncode != 0:
        lines = os.fsdecode(done.stderr).strip().splitlines()
        raise NoGit(lines[0].removeprefix("fatal: ") if lines else f"git ended with exit code {done.returncode}")
    return done.stdout


def _run(root: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    # a hook that calls us has variables that name another repository
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    kept |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            ["git", *_SAFE, "-C", str(root), *argv],
            env=kept | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise NoGit("git is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoGit(f"git cannot be asked: {error}") from None
