"""Training examples, before anything is decoded: utterances as windows, windows as micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from asr.audio.limits import AudioLimits
from asr.models.family import load_processor
from asr.models.head import InitialModel
from asr.models.processor import Processor
from asr.transcript import Task
from asr.utterance import Utterance
from train.augmentation.augment import Augmentation

MIN_AUDIO_S = 0.1  # shorter than any word
_UNCHANGED = Augmentation()


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings that turn an utterance into features and labels."""

    initial: InitialModel
    language: str | None
    task: Task
    augment: Augmentation = _UNCHANGED
    seed: int = 0
    max_damaged_share: float = 0.0

    @property
    def processor(self) -> Processor:
        """The processor of the model, loaded once in a process."""
        return processor_of(self.initial)

    @property
    def limits(self) -> AudioLimits:
        """Limits of an utterance: no longer than the network's window."""
        longest_s = self.processor.window_s
        return AudioLimits(min_audio_s=MIN_AUDIO_S, max_audio_s=longest_s, max_damaged_share=self.max_damaged_share)


@dataclass(frozen=True)
class PackedExample:
    """One input clip of the network: an utterance, or neighbours packed into a window.

    ``previous`` is the text before, a prompt that is not scored.
    """

    utterances: tuple[Utterance, ...]
    timestamps: bool = False
    previous: str = ""


@dataclass(frozen=True)
class MicroBatchSpec:
    """A micro-batch before it becomes tensors: self-contained, so that any node can prepare it."""

    examples: tuple[PackedExample, ...] = ()
    context_s: float = 0.0
    own_s: float = 0.0
    epoch: int = 0


@cache
def processor_of(initial: InitialModel) -> Processor:
    """Return the processor of a model, loaded once in a process."""
    return load_processor(initial.checkpoint())
