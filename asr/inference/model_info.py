"""Facts about a model that a process without its weights prepares requests by. Nothing here imports a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr.audio.features import Context
from asr.models.abilities import Refusals
from asr.models.export_formats import EngineName
from asr.models.family import WHISPER
from asr.models.processor import LONGEST_WINDOW_S, Features
from asr.transcript import DecodingRequest

# A Whisper that was fine-tuned on clips at their own length ends its text where such a clip would end, and leaves the
# rest of a longer window out: see docs/benchmarks.md, "The long file". Of shorter windows there are too many.
SHORTEST_WINDOW_S = 8.0


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a model, without its weights, that are needed to prepare a request for it.

    ``languages`` are the codes that it can be told (none: any), ``language`` the one of a request that names none
    (None: detect it). ``engine`` names the engine that runs it, ``precision`` the type of its weights, ``family`` its
    family of networks, ``refusals`` what it cannot do, ``speech_s`` the seconds that its training heard at once.
    """

    name: str
    languages: frozenset[str]
    language: str | None
    context: Context
    features: Features
    engine: EngineName = "torch"
    precision: str = "float32"
    family: str = WHISPER
    refusals: Refusals = field(default_factory=dict, hash=False)
    speech_s: float | None = None

    @property
    def window_s(self) -> float:
        """Seconds of the longest window to cut a long recording into for it."""
        if self.family != WHISPER or self.context == "full":
            return LONGEST_WINDOW_S
        return min(max(self.speech_s or 0.0, SHORTEST_WINDOW_S), LONGEST_WINDOW_S)

    def samples_s(self, num_samples: int) -> float:
        """Return the seconds of audio that the encoder sees of so many samples at 16 kHz."""
        return self.features.encoder_s(self.features.num_frames(num_samples), self.context)

    def encoder_s(self, request: DecodingRequest) -> float:
        """Return the cost of a clip: the seconds of audio that the encoder sees."""
        return self.features.encoder_s(request.features.shape[1], self.context)

    @property
    def computed(self) -> str:
        """Describe, for people, how the model is run."""
        window = "each window padded to 30 s" if self.context == "full" else "each window at its own length"
        return f"{self.family}, {self.engine}, {self.precision}, {window}"
