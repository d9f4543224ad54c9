"""Catalog of public names: a stable version, the one before it, and perhaps a candidate with a share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from asr.config import suggestion
from asr.errors import UserError
from asr.io import storage
from asr.printable import printable
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.models.version import Role, Version

# Many programs that speak OpenAI's API have this name built in and offer no way to change it.
OPENAI_NAME = "whisper-1"


@dataclass(frozen=True)
class CatalogEntry:
    """Entry of a public name. ``configured`` is the artifact that the configuration gave it, "" for a later name."""

    stable: Version
    previous: Version | None = None
    candidate: Version | None = None
    share: float = 0.0
    configured: str = ""

    @property
    def versions(self) -> list[Version]:
        """All that it may need: the stable one first."""
        return [version for version in (self.stable, self.candidate, self.previous) if version is not None]

    def drawn(self, request_id: str) -> tuple[Version, Role]:
        """Return the version that answers a request: always the same for the same id."""
        if self.candidate is not None and _place(f"{self.candidate} {request_id}") < self.share:
            return self.candidate, "candidate"
        return self.stable, "stable"


@dataclass(frozen=True)
class Catalog:
    """Public names and their entries; the first is for clients that cannot choose. Changes make a new catalog.

    ``default_alias`` is another word for the first: what the configuration calls its artifact.
    """

    entries: Mapping[str, CatalogEntry]
    default_alias: str = ""

    @property
    def default(self) -> str:
        """The name of the model that ``whisper-1`` means."""
        return next(iter(self.entries))

    def name(self, asked: str) -> str:
        """Return the public name that a client means. Raises ApiError 404."""
        if asked in self.entries:
            return asked
        if asked == OPENAI_NAME or is_same(asked, self.default_alias):
            return self.default
        known = ", ".join(f"'{name}'" for name in self.entries)
        raise ApiError(404, f"there is no model '{printable(asked)}' here, only {known}", "model_not_found", "model")

    def uses(self, version: Version) -> bool:
        """Return whether any name may need a version; one without a fingerprint may be any of its artifact."""
        named = [other for entry in self.entries.values() for other in entry.versions]
        return any(version.is_met_by(other) or other.is_met_by(version) for other in named)

    def pinned(self, found: Version) -> Catalog:
        """Say which files the versions without a fingerprint turned out to be."""

        def pin(version: Version | None) -> Version | None:
            return found if version is not None and version.is_met_by(found) else version

        return replace(
            self,
            entries={
                name: replace(
                    entry,
                    stable=pin(entry.stable) or entry.stable,
                    previous=pin(entry.previous),
                    candidate=pin(entry.candidate),
                )
                for name, entry in self.entries.items()
            },
        )

    def with_name(self, name: str, version: Version) -> Catalog:
        """Add a name. Raises UserError where it is taken."""
        if name in self.entries or name == OPENAI_NAME or is_same(name, self.default_alias):
            raise UserError(f"there is a model '{name}' already", f"promote {name} ARTIFACT replaces it")
        return self._with(name, CatalogEntry(version))

    def with_candidate(self, name: str, version: Version, share: float) -> Catalog:
        """Let a candidate answer a share of a name's requests. Raises UserError."""
        return self._with(name, replace(self.entry(name), candidate=version, share=share))

    def promoted(self, name: str, version: Version) -> Catalog:
        """Let a version answer all of a name's requests; the one that did is the one before. Raises UserError."""
        entry = self.entry(name)
        before = entry.previous if entry.stable == version else entry.stable
        return self._with(name, replace(entry, stable=version, previous=before, candidate=None, share=0.0))

    def rolled_back(self, name: str) -> Catalog:
        """End a name's canary, or go back to the version before. Raises UserError where there is neither."""
        entry = self.entry(name)
        if entry.candidate is not None:
            return self._with(name, replace(entry, candidate=None, share=0.0))
        if entry.previous is None:
            raise UserError(f"'{name}' has no version before {entry.stable}")
        return self._with(name, replace(entry, stable=entry.previous, previous=None))

    def without(self, name: str) -> Catalog:
        """Take a name out. Raises UserError for the default, which ``/readyz`` and ``whisper-1`` stand for."""
        self.entry(name)
        if name == self.default:
            raise UserError(f"'{name}' is the default model", "promote another artifact in its place")
        return replace(self, entries={other: entry for other, entry in self.entries.items() if other != name})

    def entry(self, name: str) -> CatalogEntry:
        """Return what a name stands for. Raises UserError where nobody gave it."""
        if name not in self.entries:
            hint = suggestion(name, list(self.entries)) or f"load {printable(name)} ARTIFACT adds it"
            raise UserError(f"there is no model '{printable(name)}' here", hint)
        return self.entries[name]

    def _with(self, name: str, entry: CatalogEntry) -> Catalog:
        return replace(self, entries={**self.entries, name: entry})


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _File:
    """The file that a catalog is kept in."""

    format_version: Literal[1] = 1
    models: dict[str, CatalogEntry] = field(default_factory=dict)


_FILE = TypeAdapter(_File)


def opened(config: ServeConfig) -> Catalog:
    """Return the catalogue of an endpoint that starts: the configuration's, gone on with as its registry says.

    Names that were added stay; a name goes on with what was promoted, unless the configuration names another artifact
    for it than it did; a name that the configuration no longer has goes. Raises UserError for a damaged registry.
    """
    kept = _read(config.registry)
    entries: dict[str, CatalogEntry] = {}
    for name, artifact in config.artifacts.items():
        before = kept.pop(name, None)
        if before is None:
            entries[name] = CatalogEntry(Version(artifact), configured=artifact)
        elif is_same(before.configured, artifact):
            entries[name] = before
        else:
            entries[name] = CatalogEntry(Version(artifact), previous=before.stable, configured=artifact)
    entries |= {name: entry for name, entry in kept.items() if not entry.configured}
    return Catalog(entries, config.model)


def is_same(written: str, artifact: str) -> bool:
    """Return whether a configuration's artifact, an absolute path by now, is what somebody wrote in its folder."""
    return written == artifact or (bool(written) and artifact.endswith(f"/{written.removeprefix('./').rstrip('/')}"))


def save(catalog: Catalog, registry: str) -> None:
    """Write a catalog, if the configuration names a registry. Raises UserError where it cannot be written."""
    if registry:
        text = _FILE.dump_json(_File(models=dict(catalog.entries)), indent=1).decode()
        storage.write_text(registry, text + "\n")


def _read(registry: str) -> dict[str, CatalogEntry]:
    if not registry or not storage.exists(registry):
        return {}
    try:
        return _FILE.validate_json(storage.read_text(registry)).models
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"registry={registry}: {where}: {fault['msg']}", "mend it, or delete it") from None


def _place(text: str) -> float:
    """Return a number from 0 to 1, evenly spread over texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
