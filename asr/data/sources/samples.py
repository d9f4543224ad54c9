"""Groups the files of a tar into samples, and reads each sample as a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from asr.audio.filenames import HOW_TOLD, is_about_all, is_audio, is_document
from asr.data.manifest import json_object
from asr.data.sources.columns import USUAL, Chooser, utterance
from asr.data.sources.config import SourceConfig
from asr.errors import UserError
from asr.io.address import tar_member
from asr.utterance import Quarantined, Utterance

KEY = "__key__"
TEXTS = frozenset({"txt", "text", "transcript"})
MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar: its name, the place of its bytes, and what a small text says.

    ``key`` and ``ending`` are its name up to the first dot and behind it. ``sparse``: holes are left out of the bytes.
    ``link`` names the file whose bytes a link would have that leads to none.
    """

    key: str
    ending: str
    name: str
    offset: int
    size: int
    text: bytes | None = None
    sparse: bool = False
    link: str = ""


def split_name(name: str) -> tuple[str, str]:
    """Return a file's name up to the first dot, with its folders, and its ending in lower case."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


class Samples:
    """The samples made of the files of one tar."""

    def __init__(self, config: SourceConfig, uri: str) -> None:
        self.uri = uri
        self.audio = config.columns.get("audio")
        self.named = frozenset(config.columns.values())
        others = {field: name for field, name in config.columns.items() if field != "audio"}
        hint = "; files of one sample must lie side by side in a tar, as tar --sort=name puts them"
        self.chooser = Chooser(config.model_copy(update={"columns": others}), uri, ("audio", "text"), hint)
        self.met: set[str] = set()
        self.lacking: list[str] = []

    def is_text(self, ending: str) -> bool:
        """Return whether a file with this ending is text that a sample may need."""
        last = ending.rpartition(".")[2]
        return (last in TEXTS or last == "json" or ending in self.named) and not _is_audio(ending)

    def is_wanted(self, ending: str) -> bool:
        """Return whether a file with this ending can be part of a sample: audio, or such a text."""
        return _is_audio(ending) or self.is_text(ending)

    def rows(self, group: Sequence[Member], cut: str = "") -> Iterator[Utterance | Quarantined]:
        """Yield the rows of files that lie side by side and have one name up to the first dot.

        ``cut`` says why the tar ends with them: what the last one belongs to is then quarantined as truncated.
        """
        parts = self._parts(group)
        torn = (
            next((sample for sample in parts if any(m.name == group[-1].name for m in sample)), None) if cut else None
        )
        for sample in parts:
            if sample is not torn and not _is_none(sample):
                yield self._row(sample)
        if cut:
            yield Quarantined(torn[0].key if torn else self.uri, "truncated", cut)

    def require_both(self) -> None:
        """Raise UserError where the tar is read and none of its samples had audio, or none of those a transcript."""
        if self.lacking and not self.chooser.known:
            what = f"no column for audio: none of its samples has {f'.{self.audio}' if self.audio else 'audio'}"
            raise UserError(f"{self.uri}: {what}, the first has {self.lacking[0]}", f"name its ending, {HOW_TOLD}")
        self.chooser.require()

    def _parts(self, group: Sequence[Member]) -> list[list[Member]]:
        """The samples of a group: one, as WebDataset has it, unless each of its clips has a name of its own."""
        by_stem: dict[str, list[Member]] = {}
        for member in group:
            stem, _, last = member.ending.rpartition(".")
            own = replace(member, key=f"{member.key}.{stem}" if stem else member.key, ending=last)
            by_stem.setdefault(stem, []).append(own)
        clips = {stem for stem, members in by_stem.items() if any(_is_audio(m.ending) for m in members)}
        texts = {stem for stem, members in by_stem.items() if any(self.is_text(m.ending) for m in members)}
        others = clips - {""}
        # Recordings that share the one transcript: "a.far.wav", "a.near.wav", "a.txt"; or of which one was chosen.
        shared = "" in texts and not texts & others and ("" not in clips or self.audio is not None)
        if not others or shared or any(member.ending in self.named and "." in member.ending for member in group):
            return [list(group)] if group else []
        return list(by_stem.values())

    def _row(self, sample: Sequence[Member]) -> Utterance | Quarantined:
        key = sample[0].key
        if key in self.met:
            why = "its files are not side by side in the tar, or are there twice"
            return Quarantined(key, "malformed_row", f"{self.uri}: a second sample of this name: {why}")
        self.met.add(key)
        files = {member.ending: member for member in sample}
        cells: dict[str, object] = {KEY: key}
        try:
            if sparse := next((member.name for member in sample if member.sparse), ""):
                raise ValueError(f"{sparse} is sparse: pack it without tar -S")
            if link := next((member for member in sample if member.link), None):
                raise ValueError(f"{link.name} is a link to {link.link}, which is no file earlier in the tar")
            for ending, member in files.items():
                if ending == "json":
                    cells |= json_object(_decoded(member), member.name)
                elif (ending in TEXTS or ending in self.named) and not _is_audio(ending):
                    cells[ending] = _decoded(member).strip()
            found = self._chosen(files)
        except (UserError, ValueError) as error:
            return Quarantined(key, "malformed_row", f"{self.uri}: {error}")
        if found is None:
            there = ", ".join(f".{ending}" if ending else member.name for ending, member in files.items())
            self.lacking.append(there)
            return Quarantined(key, "missing_audio", f"{self.uri}: no audio among {there}")
        # The audio is a file of the sample: a path in its JSON means nothing outside the tar.
        cells = {name: cell for name, cell in cells.items() if name not in USUAL["audio"]}
        address = cells["audio"] = tar_member(self.uri, found.offset, found.size, found.name)
        return utterance(cells, self.chooser.columns(list(cells)), key, address)

    def _chosen(self, files: dict[str, Member]) -> Member | None:
        """The recording of a sample: the named one, or the one that there is. ValueError where it is one of several."""
        if self.audio is not None:
            return files.get(self.audio.lower())
        found = [ending for ending in files if _is_audio(ending)]
        plain = [ending for ending in found if "." not in ending]
        if len(found) > 1 and not plain:
            raise ValueError(f"has {' and '.join(found)}: name one: columns: {{audio: {found[0]}}}")
        return files[(plain or found)[0]] if found else None


def _is_audio(ending: str) -> bool:
    return is_audio(f"x.{ending}")


def _is_none(sample: Sequence[Member]) -> bool:
    """Return whether files describe the tar and are no sample: a licence, a table."""
    return all(is_about_all(m.name) or (is_document(m.name) and not m.name.endswith(".json")) for m in sample)


def _decoded(member: Member) -> str:
    if member.text is None:
        raise ValueError(f"{member.name}: {member.size:,} bytes, over {MAX_TEXT_BYTES:,}")
    return member.text.decode("utf-8-sig")
