"""The recordings that a command line means: files, folders, patterns, addresses and lists of all these."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from asr.audio.filenames import HOW_TOLD, is_audio, is_litter, suffix
from asr.data.manifest import read_manifest
from asr.errors import DataError, UserError
from asr.io import storage
from asr.io.roots import Roots
from asr.io.storage import FileEntry

LISTS = (".txt", ".jsonl")
_SHOWN = 8  # suffixes


@dataclass(frozen=True)
class Input:
    """A recording: its address, its name as seen from the folder or list it was found by, its size where it is known.

    The name, ``lectures/one.mp3``, has no part that leads upwards or is hidden.
    """

    address: str
    name: str
    bytes: int = 0


@dataclass(frozen=True)
class FoundInputs:
    """Recordings, each once; how many were named again; and the files left out of folders, counted by their suffix."""

    inputs: list[Input]
    repeated: int
    not_audio: Mapping[str, int]

    def __str__(self) -> str:
        """Return one line about what is not among the recordings; empty where that is nothing."""
        counts = [f"{count} {kind or 'without a suffix'}" for kind, count in self.not_audio.items()]
        left_out = f"left out, not audio by their names: {', '.join(counts)}" if counts else ""
        again = f"named more than once: {self.repeated}" if self.repeated else ""
        return "; ".join(filter(None, (left_out, again)))


def find(words: Sequence[str], audio_roots: Sequence[str] = ()) -> FoundInputs:
    """Return the recordings that ``words`` mean, in their order, each file once, by its path.

    A file is taken as it is, and also where there is none: what is wrong with it is found when it is opened. Of
    folders, which are searched at any depth, and of patterns (``*`` within a name, ``**`` across folders) the files
    with a suffix of audio are taken. A ``.txt`` names one file a line, a ``.jsonl`` one as ``audio_filepath``, both
    relative to where they lie: files in that folder, or in one of ``audio_roots``. Raises UserError for a folder or
    pattern that holds no audio, a list without lines, and one that names a file elsewhere.
    """
    found: dict[str, Input] = {}
    others: set[str] = set()
    repeated = 0
    for word in words:
        for one in _meant(word, others, audio_roots):
            file = _file(one.address)
            repeated += file in found
            found.setdefault(file, one)
    counts = Counter(suffix(storage.name_of(file)) for file in others - set(found))
    return FoundInputs(
        list(found.values()), repeated, dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    )


def _file(address: str) -> str:
    """Return one form of a local path, however it is written: ``./a.wav``, ``a.wav``, ``file:///here/a.wav``."""
    return address if storage.is_remote(address) else os.path.abspath(storage.local_path(address))


def _meant(word: str, others: set[str], audio_roots: Sequence[str]) -> Iterator[Input]:
    kind = storage.kind(word)
    if kind == "folder":
        yield from _audio(word, storage.list_files(word), others)
    elif kind == "" and "*" in word:
        yield from _audio(word, _matching(word), others)
    elif kind == "file" and suffix(storage.name_of(word)) in LISTS:
        yield from _listed(word, audio_roots)
    else:
        yield _input(word, storage.name_of(word), _size(word))


def _audio(word: str, entries: Sequence[FileEntry], others: set[str]) -> list[Input]:
    found = [_input(entry.uri, entry.name, entry.bytes) for entry in entries if is_audio(entry.name)]
    left = [entry for entry in entries if not is_audio(entry.name) and not is_litter(entry.name)]
    if not found:
        kinds = sorted({suffix(entry.name) or entry.name for entry in left})
        there = f", only {len(left)} of other kinds: {' '.join(kinds[:_SHOWN])}" if left else ""
        raise UserError(f"{word}: no audio files are there{there}", HOW_TOLD)
    others.update(_file(entry.uri) for entry in left)
    return found


def _matching(pattern: str) -> list[FileEntry]:
    base, parts = pattern, list[str]()
    while "*" in base:
        parts.insert(0, storage.name_of(base))
        base = storage.parent(base)
    return [entry for entry in storage.list_files(base) if _matches(entry.name.split("/"), parts)]


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_matches(names[start:], parts[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _listed(uri: str, audio_roots: Sequence[str]) -> Iterator[Input]:
    folder = storage.parent(uri)
    is_text = suffix(storage.name_of(uri)) == ".txt"
    addresses = list(_lines(uri, Roots(folder, audio_roots)) if is_text else _rows(uri, audio_roots))
    if not addresses:
        raise UserError(f"{uri}: the list names no files")
    for address in addresses:
        inside = address.startswith(f"{folder}/")
        yield _input(address, address[len(folder) + 1 :] if inside else storage.name_of(address), _size(address))


def _lines(uri: str, roots: Roots) -> Iterator[str]:
    with storage.open_text(uri) as file:
        for number, line in enumerate(map(str.strip, file), start=1):
            try:
                if line:
                    yield roots.address(line)
            except DataError as fault:
                raise UserError(f"{uri}:{number}: {fault.detail}") from None


def _rows(uri: str, audio_roots: Sequence[str]) -> Iterator[str]:
    for row in read_manifest(uri, texts=False, audio_roots=audio_roots):
        if row.start_s or row.end_s is not None:
            raise UserError(f"{uri}: '{row.id}' is a stretch of a recording", "list whole files, without offset")
        yield str(row.audio)


def _input(address: str, name: str, size: int) -> Input:
    parts = [part.lstrip(".") for part in name.split("/")]
    return Input(address, "/".join(part for part in parts if part) or "recording", size)


def _size(uri: str) -> int:
    """Return the size of a local file. Of an address in a list it is not asked for: a request for each takes long."""
    path = storage.local_path(uri)
    return os.path.getsize(path) if not storage.is_remote(uri) and os.path.isfile(path) else 0
