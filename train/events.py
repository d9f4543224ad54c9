"""Progress and scores of a run: posted by its workers, fetched by the process that started it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from asr.parsed import JsonObject

if TYPE_CHECKING:
    from ray.actor import ActorHandle

Corpus = Literal["validation", "retention"]


@dataclass(frozen=True)
class Progress:
    """Progress of one optimiser step. Seconds, audio seconds and tokens count the whole run, resumed parts included.

    ``padding_share`` is the padded part of what this attempt fed the network, ``memory_bytes`` the first worker's peak:
    of its GPU, or of the process where there is none. ``wer`` is the newest on the validation sample.
    ``blank_share`` is the share of positions at which a CTC model spells nothing.
    """

    step: int
    max_steps: int
    loss: float
    learning_rate: float
    seconds: float
    audio_s: float
    wait_s: float
    resumed_at: int
    grad_norm: float | None = None
    tokens: int = 0
    padding_share: float = 0.0
    memory_bytes: int = 0
    wer: float | None = None
    blank_share: float | None = None

    @property
    def audio_per_s(self) -> float:
        """Seconds of speech that pass the network in a second."""
        return self.audio_s / self.seconds if self.seconds else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time in which the worker stood still for want of data."""
        return self.wait_s / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the last step, at the speed so far."""
        return self.seconds / self.step * (self.max_steps - self.step) if self.step else 0.0


@dataclass(frozen=True)
class Scored:
    """The network of one step on a sample of one corpus; ``summary`` is ``Evaluation.summary``.

    Step 0 of the retention corpus is the base model in the context it was made for, 30 s.
    """

    step: int
    corpus: Corpus
    summary: JsonObject

    @property
    def wer(self) -> float:
        """Normalised word error rate, a share."""
        return float(self.summary["wer"]["rate"])


@dataclass(frozen=True)
class Failed:
    """An evaluation that ended in an error. Training goes on without its figure."""

    step: int
    error: str


@dataclass(frozen=True)
class Stalled:
    """A worker that has stood still for so long: its step, its activity, and the lines of code it is in."""

    rank: int
    step: int
    seconds: float
    doing: str
    where: str


Entry = Progress | Scored | Failed | Stalled

# Steps that wait for a driver that does not come: half an hour of fast ones, and a few megabytes.
_MOST_WAITING = 10_000


class ProgressBoard:
    """Holds events until they are fetched. Run as an actor: workers may be on other nodes than the driver."""

    def __init__(self, scored: Sequence[Scored] = ()) -> None:
        self._waiting: deque[tuple[int, Entry]] = deque(maxlen=_MOST_WAITING)
        self._posted = 0
        self._scored = list(scored)

    def post(self, entry: Entry) -> None:
        """Put an entry behind those that wait."""
        self._posted += 1
        self._waiting.append((self._posted, entry))
        if isinstance(entry, Scored):
            self._scored.append(entry)

    def fetch(self, after: int) -> list[tuple[int, Entry]]:
        """Return the numbered entries behind number ``after``, and forget the others: they have arrived."""
        while self._waiting and self._waiting[0][0] <= after:
            self._waiting.popleft()
        return list(self._waiting)

    def scored(self) -> list[Scored]:
        """Return all evaluations of the run, also those of earlier attempts that it was made with."""
        return list(self._scored)


ProgressActor: TypeAlias = "ActorHandle"
"""A handle to a ProgressBoard."""
