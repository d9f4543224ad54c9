"""Files that travel to a cluster: of a checkout what git tracks, of an installed copy all, and what is named."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from asr.errors import UserError
from cluster import git, project

MAX_BYTES = 100_000_000
_SHOWN = 3
# Where git cannot say what belongs to the project: its packages, and these.
_PROGRAM = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "configs/demo.yaml")
_OF_PACKAGES = (".py", ".j2", ".html", ".css", ".js", ".svg", ".typed")
_RELEVANT = (".py", ".yaml", ".yml", ".json", ".jsonl", ".j2", ".toml", "/")

# In the words of .gitignore, of names in small letters: what is said to look like a secret where it travels, and is
# left out of a named folder.
SECRETS = GitIgnoreSpec.from_lines(
    (
        *(
            "id_rsa*",
            "id_dsa*",
            "id_ecdsa*",
            "id_ed25519*",
            "!id_*.pub",
            "*.pem",
            "*.key",
            "*.p12",
            "*.pfx",
            "*.jks",
            "*.kdbx",
            "*.ppk",
        ),
        *(".ssh/", ".gnupg/", ".aws/", ".azure/", ".kube/", ".docker/", "kubeconfig", ".dockerconfigjson"),
        *(".env", ".env.*", "*.env", ".envrc", "!.env.example", "!.env.sample", "!.env.template"),
        *(".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".pgpass"),
        *(
            "*token",
            "*token.json",
            "*token.txt",
            "*-key.json",
            "*_key.json",
            "*api_key*",
            "*apikey*",
            "*adminsdk*.json",
        ),
        *(".boto", ".s3cfg", ".my.cnf", "*passwords*", "*_credentials*", "*-credentials*"),
        *("credentials", "credentials.*", "*service-account*.json", "*service_account*.json", "client_secret*.json"),
        *("keys.yaml", "keys.yml", "keys.json", "secrets.*", "secret.*", "*.tfvars", "*.tfstate"),
    )
)


@dataclass(frozen=True)
class Contents:
    """The files that travel, by their name in the archive, and in words what does not or should perhaps not."""

    files: Mapping[str, Path]
    remarks: tuple[str, ...] = ()

    def pack(self, archive: Path) -> int:
        """Write a zip of the files, and return their number.

        The same files give the same archive, byte for byte, so that a cluster that has it is not sent it again. Raises
        UserError where the files are over MAX_BYTES together, naming the biggest.
        """
        sizes = {name: path.stat().st_size for name, path in self.files.items()}
        if (total := sum(sizes.values())) > MAX_BYTES:
            biggest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
            shown = ", ".join(f"{name} ({sizes[name] / 1e6:.0f} MB)" for name in biggest)
            raise UserError(
                f"{total / 1e6:.0f} MB would travel to the cluster, over {MAX_BYTES / 1e6:.0f}; the biggest: {shown}",
                "move them out of the checkout, or name them in .rayignore",
            )
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in sorted(self.files):
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (0o755 if os.access(self.files[name], os.X_OK) else 0o644) << 16
                zipped.writestr(info, self.files[name].read_bytes())
        return len(self.files)


@dataclass(frozen=True)
class Checkout:
    """A folder with this project in it, or one that is worked in with an installed copy.

    Of the latter nothing travels but what is named, and with it the copy: ``installed`` is where that lies.
    """

    root: Path
    installed: Path | None = None

    @classmethod
    def here(cls) -> Checkout:
        """Return the checkout that this very file is in, or the working directory where it is installed."""
        return cls(project.ROOT) if project.is_checkout() else cls(Path.cwd(), project.ROOT)

    @property
    def pins(self) -> Path:
        """The folder of ``pyproject.toml`` and ``constraints.txt``."""
        return project.files(self.installed or self.root)

    def commit(self) -> str:
        """Return git's short name of the commit, with ``+`` where files differ from it; "" where git knows none."""
        if self.installed:
            return ""
        try:
            return git.commit(self.root)
        except git.NoGit:
            return ""

    def contents(self, asked: Iterable[str] = (), brought: Mapping[str, Path] | None = None) -> Contents:
        """Return what travels: what git tracks, as it lies on the disk, ``asked`` and ``brought``; nothing else.

        ``asked`` are names from the root on, of files or folders; ``brought`` are files by the name they travel under.
        A link travels as its target's content where that travels itself. What ``.rayignore`` names stays, unless it
        is asked for. Raises UserError where what is asked for is not there.
        """
        remarks: list[str] = []
        if self.installed:
            return Contents(dict(_copy(self.installed)) | dict(self._named(asked)) | dict(brought or {}))
        try:
            names, stays = self._tracked()
            untracked = git.untracked(self.root)
        except git.NoGit as reason:
            names, stays, untracked = list(self._program()), [], []
            remarks.append(f"only the program travels, and what is named (git does not say what else: {reason})")
        files, links = self._present(names)
        named = dict(self._named(asked)) | dict(brought or {})
        files |= named
        if odd := [name for name in files if not _is_utf8(name)]:  # no zip can name them, nor a job's description
            files = {name: path for name, path in files.items() if _is_utf8(name)}
            remarks.append(f"left here: names that are no UTF-8: {_shown(odd)}")
        stays += links
        remarks += _left_untracked([name for name in untracked if not _is_among(name, named)])
        if stays := [name for name in stays if name not in named]:
            remarks.append(f"left here: links to what does not travel, and submodules: {_shown(stays)}")
        if found := [name for name in files if _is_secret(name) and name not in named]:
            remarks.append(f"these look like secrets and travel, for git tracks them: {_shown(found)}")
        return Contents(files, tuple(remarks))

    def asked(self, here: Path, given: Iterable[str]) -> list[str]:
        """Return what a person named in the folder ``here`` as names from the root on. Raises UserError."""
        names = []
        for word in given:
            path = (here / word).resolve()
            if not path.exists():
                raise UserError(f"--with {word}: there is no such file or folder")
            if not path.is_relative_to(self.root.resolve()):
                raise UserError(f"--with {word}: outside of {self.root}", "copy it there, or to --storage")
            name = path.relative_to(self.root.resolve())
            if ".git" in name.parts:
                raise UserError(f"--with {word}: git's own files do not travel", "they may hold a remote's password")
            if not _is_utf8(name.as_posix()):
                raise UserError(f"--with {_shown([name.as_posix()])}: the name is no UTF-8", "rename it")
            names.append(name.as_posix())
        return names

    def _tracked(self) -> tuple[list[str], list[str]]:
        """Return git's files and links, and the submodules, which stay."""
        entries = git.tracked(self.root)
        if "pyproject.toml" not in entries:  # this folder lies in somebody else's repository
            raise git.NoGit("it does not track pyproject.toml here")
        stays = [name for name, entry in entries.items() if entry.mode == git.SUBMODULE]
        ignored = self._ignored(entries)
        return [name for name in entries if name not in stays and not ignored(name)], stays

    def _ignored(self, names: Iterable[str]) -> _Ignored:
        folders = {folder for name in names for folder in PurePosixPath(name).parents}
        found = ((folder, self.root / folder / ".rayignore") for folder in sorted(folders, key=str))
        return _Ignored([(folder, _rules(file)) for folder, file in found if file.is_file()])

    def _program(self) -> Iterator[str]:
        """Yield the names of the packages' modules and data, and of what they need."""
        yield from (name for name in _PROGRAM if (self.root / name).is_file())
        yield from _packages(self.root)

    def _present(self, names: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
        """Return the files among ``names``, and the links to what is not among them: those stay."""
        known, root = set(names), self.root.resolve()
        files, links = {}, []
        for name in names:
            path = self.root / name
            target = _resolved(path)
            inside = target is not None and target.is_relative_to(root) and target.relative_to(root).as_posix() in known
            if target is not None and inside and target.is_file():
                files[name] = target
            elif os.path.lexists(path) and not inside:
                links.append(name)
        return files, links

    def _named(self, asked: Iterable[str]) -> Iterator[tuple[str, Path]]:
        """Yield what is named: a file, whatever it is; of a folder no links, and nothing that looks like a secret."""
        for name in asked:
            path = self.root / name
            if path.is_file():
                yield name, path
            elif path.is_dir():
                for found in sorted(path.rglob("*")):
                    inside = found.relative_to(self.root).as_posix()
                    if found.is_file() and found.resolve() == self.root.resolve() / inside and not _stays(inside):
                        yield inside, found
            else:
                raise UserError(f"--with {name}: there is no such file or folder in {self.root}")


def _packages(root: Path) -> Iterator[str]:
    """Yield the names of our packages' modules and data."""
    for package in project.PACKAGES:
        for path in sorted((root / package).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix in _OF_PACKAGES and path.is_file() and not _stays(name):
                yield name


def _copy(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of an installed copy by their names in a checkout."""
    for name in _packages(root):
        yield name, root / name
    pins = project.files(root)
    for path in (pins / "pyproject.toml", pins / "constraints.txt", *(pins / "configs").glob("*.yaml")):
        yield path.relative_to(pins).as_posix(), path


@dataclass(frozen=True)
class _Ignored:
    """Files named by .rayignore files, each from its own folder on."""

    rules: Sequence[tuple[PurePosixPath, GitIgnoreSpec]]

    def __call__(self, name: str) -> bool:
        path = PurePosixPath(name)
        return any(
            spec.match_file(str(path.relative_to(folder))) for folder, spec in self.rules if path.is_relative_to(folder)
        )


def _rules(file: Path) -> GitIgnoreSpec:
    """Return what a .rayignore says, of names as the system gives them. Raises UserError where it cannot be read."""
    try:
        return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    except (OSError, ValueError) as error:  # the second of a pattern
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or error}", "mend it, or remove it") from None


def _resolved(path: Path) -> Path | None:
    """Return where a path leads, whose folders may be links too; None for a link that leads to itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the second in Python 3.11
        return None


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= one <= "\udfff" for one in name)


def _is_secret(name: str) -> bool:
    return SECRETS.match_file(name.lower())


def _stays(name: str) -> bool:
    return _is_secret(name) or bool({".git", "__pycache__"} & set(PurePosixPath(name).parts))


def _left_untracked(names: Sequence[str]) -> list[str]:
    """Say what git does not track: code and configurations by name, the rest by number."""
    if not names:
        return []
    relevant = [name for name in names if name.endswith(_RELEVANT) and not _is_secret(name)]
    relevant.sort(key=lambda name: next(rank for rank, end in enumerate(_RELEVANT) if name.endswith(end)))
    shown = f" ({_shown(relevant)})" if relevant else ""
    return [f"left here: {len(names)} that git does not track{shown}; to take one: git add, or --with PATH"]


def _is_among(name: str, named: Mapping[str, Path]) -> bool:
    return any(one == name or (name.endswith("/") and one.startswith(name)) for one in named)


def _shown(names: Sequence[str]) -> str:
    """Name the first few, quoted where a name has a line break or another control character in it."""
    shown = [name if name.isprintable() else repr(name) for name in names[:_SHOWN]]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more
