"""Survey of a source, gathered row by row in memory that does not grow with its audio."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import DEFAULT_LIMITS, SAMPLE_RATE
from asr.audio.probe import Header
from asr.audio.sandbox import with_headers
from asr.audio.silence import require_sound
from asr.data.segments import LabelledSegment
from asr.data.split import transcript_key
from asr.errors import DataError
from asr.models.processor import Processor
from asr.scoring.characters import Characters
from asr.utterance import Quarantined, Utterance
from train.data.casing import Casing
from train.data.filters import Filters
from train.data.pace import Pace
from train.data.prepare import Row

Same = Literal["transcript", "audio"]


@dataclass(frozen=True)
class Repeats:
    """Clips that have the same of something as an earlier clip, and the first pairs of (earlier id, later id)."""

    clips: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Look:
    """Findings about one row. ``length_s`` and ``audio`` are None if nothing could be decoded."""

    id: str
    fault: Quarantined | None = None
    row: Utterance | None = None
    header: Header | None = None
    length_s: float | None = None
    audio: bytes | None = None


class Seen:
    """Digests that came before and the first id that had each; 100 to 150 bytes a row."""

    def __init__(self, num_examples: int) -> None:
        self.first: dict[bytes, str] = {}
        self.clips = 0
        self.examples: list[tuple[str, str]] = []
        self.num_examples = num_examples

    def add(self, digest: bytes, id: str) -> None:
        """Count a clip that has what an earlier one has."""
        if digest in self.first:
            self._count(self.first[digest], id)
        else:
            self.first[digest] = id

    def compare(self, digest: bytes, id: str, other: Seen) -> None:
        """Count a clip of this source that has what a clip of the ``other`` has."""
        if digest in other.first:
            self._count(other.first[digest], id)

    def _count(self, earlier: str, later: str) -> None:
        self.clips += 1
        if len(self.examples) < self.num_examples:
            self.examples.append((earlier, later))

    def repeats(self) -> Repeats:
        """Return how many repeats were met, and some of them."""
        return Repeats(self.clips, tuple(self.examples))


@dataclass
class Survey:
    """Sums over the rows that were added; ``against`` is that of the source to compare with."""

    num_examples: int
    processor: Processor
    against: Mapping[Same, Seen] | None = None
    rows: int = 0
    usable: int = 0
    usable_s: float = 0.0
    lengths_s: array[float] = field(default_factory=lambda: array("f"))
    clips: Counter[str] = field(default_factory=Counter)
    """By language; so are seconds."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    speakers: set[str] = field(default_factory=set)
    headers: Counter[Header] = field(default_factory=Counter)
    tokens: int = 0
    max_label_tokens: int = 0
    faults: list[Quarantined] = field(default_factory=list)
    ids: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.characters = Characters(self.num_examples)
        self.duplicates: dict[Same, Seen] = {kind: Seen(self.num_examples) for kind in ("transcript", "audio")}
        self.overlap: dict[Same, Seen] = {kind: Seen(self.num_examples) for kind in ("transcript", "audio")}
        self.casing, self.pace = Casing(), Pace()
        self._around = self.processor.around("en", "transcribe")

    def add(self, look: Look) -> None:
        """Take one row into account."""
        self.rows += 1
        fault = look.fault
        labels = 0
        if look.row is not None:
            fault = self._repeated_id(look.row) or fault
            labels, unfit = self._text(look.row, look.length_s)
            fault = fault or unfit
        # In the order of the rows, faulty ones too: whether transcripts are shifted is told by their neighbours.
        self.pace.add(look.row.text if look.row is not None else "", look.length_s)
        if look.row is not None and look.length_s is not None:
            self.lengths_s.append(look.length_s)
            language = look.row.language or "unknown"
            self.clips[language] += 1
            self.seconds[language] += look.length_s
        if look.header is not None:
            self.headers[look.header] += 1
        if look.row is not None and (fault is None or fault.reason != "duplicate_id"):
            self._compare(look.row, look.audio)
        if fault is not None:
            self.faults.append(fault)
        elif look.length_s is not None:
            self.usable += 1
            self.usable_s += look.length_s
            self.tokens += labels - self._around
            self.max_label_tokens = max(self.max_label_tokens, labels)

    def _repeated_id(self, row: Utterance) -> Quarantined | None:
        digest = _digest(row.id.encode("utf-8", "surrogatepass"))
        repeated = digest in self.ids
        self.ids.add(digest)
        return Quarantined(row.id, "duplicate_id") if repeated else None

    def num_tokens(self, text: str) -> int:
        """Return the tokens of a text; 0 for one that the processor cannot write, as a letter it does not know."""
        try:
            return self.processor.text_lengths([text])[0]
        except DataError:
            return 0

    def _text(self, row: Utterance, length_s: float | None) -> tuple[int, Quarantined | None]:
        """Count the characters; return the number of label tokens, and what is wrong with them."""
        self.characters.add(row.id, row.text)
        self.casing.add(row.id, row.text)
        if row.speaker:
            self.speakers.add(row.speaker)
        try:
            text = [LabelledSegment(0.0, min(length_s or 0.0, self.processor.window_s), row.text)]
            return len(self.processor.label(text, "en", "transcribe")), None
        except DataError as error:
            return 0, Quarantined(row.id, error.reason, error.detail)

    def _compare(self, row: Utterance, audio: bytes | None) -> None:
        keys: dict[Same, bytes] = {} if audio is None else {"audio": audio}
        if any(map(str.isalnum, row.text)):
            keys["transcript"] = _digest(transcript_key(row).encode())
        for kind, key in keys.items():
            self.duplicates[kind].add(key, row.id)
            if self.against is not None:
                self.overlap[kind].compare(key, row.id, self.against[kind])


def look(rows: Sequence[Row], config: Filters) -> list[Look]:
    """Read and decode the audio of some rows in one go; this is what is worth doing in threads."""
    wide = config.limits(0.0, DEFAULT_LIMITS.max_audio_s)  # too long and too short ones are to be measured too
    found = with_headers([row for row in rows if isinstance(row, Utterance)], wide)
    return [Look(row.id, row) if isinstance(row, Quarantined) else _look(row, next(found), config) for row in rows]


def _look(row: Utterance, found: tuple[Header, NDArray[np.float32]] | DataError, config: Filters) -> Look:
    fault = _fault(row, lambda: config.check_text(row.text))
    if isinstance(found, DataError):
        return Look(row.id, fault or Quarantined(row.id, found.reason, found.detail), row)
    header, waveform = found
    length_s = len(waveform) / SAMPLE_RATE
    fault = fault or _fault(row, lambda: config.check_length(length_s))
    fault = fault or _fault(row, lambda: require_sound(waveform))
    fault = fault or _fault(row, lambda: config.check_rate(row.text, length_s))
    samples = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)  # a FLAC copy has the same
    return Look(row.id, fault, row, header, length_s, _digest(samples.tobytes()))


def _fault(row: Utterance, check: Callable[[], None]) -> Quarantined | None:
    try:
        check()
    except DataError as error:
        return Quarantined(row.id, error.reason, error.detail)
    return None


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
