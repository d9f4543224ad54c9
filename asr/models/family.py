"""The interface of a model family: code outside it works with any family.

A family is a folder beside this file, and its module ``family`` holds the one object that ``family_of`` returns. Which
one it is follows from the checkpoint's own ``config.json``. Nothing outside that folder imports from inside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from asr.audio.features import Context
from asr.errors import DataError, UserError
from asr.models.abilities import Refusals
from asr.models.alignment import AlignmentRequest, LongAlignment, SegmentLimits, SoundWindow
from asr.models.backends import FastModel, SharedBase
from asr.models.capacity import NetworkSize
from asr.models.checkpoint import Checkpoint
from asr.models.export_formats import FastEngineName, Quantization
from asr.models.processor import Features, Processor
from asr.models.training import TrainedFamily
from asr.printable import printable
from asr.transcript import DecodingRequest, Transcript, Word

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

NO_ADAPTER = "__base__"
"""PEFT's name for the adapter of a row that has none."""

WHISPER, CTC = "whisper", "ctc"

_MODULES = {WHISPER: "asr.models.whisper.family", CTC: "asr.models.ctc.family"}


@dataclass(frozen=True)
class SpeechModel:
    """A network ready to decode or to train, with its processor; the last three fields come from an artifact's card.

    ``language`` is the one the model was fine-tuned for (None: any); ``short_context`` says whether it was trained on
    clips shorter than the window without padding, ``speech_s`` how much speech it heard at once (None: unknown).
    """

    name: str
    digest: str
    network: PreTrainedModel
    processor: Processor
    language: str | None = None
    short_context: bool = False
    speech_s: float | None = None

    @property
    def family(self) -> Family:
        """The network's family."""
        return family_of_network(self.network)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        return self.processor.tokenizer

    @property
    def features(self) -> Features:
        """The features that turn waveforms into the network's input."""
        return self.processor.features

    @property
    def context(self) -> Context:
        """The audio context that the model decodes best in."""
        return "short" if self.short_context else "full"

    def transcribe(
        self,
        requests: Sequence[DecodingRequest],
        context: Context,
        max_batch_clips: int | None = None,
        fallback: bool = False,
        adapters: Sequence[str] = (),
    ) -> list[Transcript]:
        """Transcribe clips of any mix, in their order; see ``Family.transcribe``."""
        return self.family.transcribe(self, requests, context, max_batch_clips, fallback, adapters)


class Family(TrainedFamily, Protocol):
    """A family of networks: its loading, features, decoding, training and adapters."""

    @property
    def name(self) -> str: ...

    def has_type(self, model_type: str) -> bool:
        """Return whether a network of this ``model_type``, as transformers calls it, belongs to the family."""

    @property
    def published(self) -> Mapping[str, NetworkSize]:
        """Sizes that are known by their hub ids, without a file of theirs; empty where there is no formula."""

    @property
    def fast_engine(self) -> FastEngineName:
        """Its engine beside torch."""

    @property
    def shares_bases(self) -> bool:
        """True if ``shared_base`` takes its checkpoints, so that adapters share a base's weights and batches."""

    @property
    def unquantized(self) -> Sequence[str]:
        """Names of the layers that 4-bit weights leave as they are."""

    def load_processor(self, checkpoint: Checkpoint) -> Processor:
        """Load the processor, which needs no weights. Raises UserError where a file is missing or damaged."""

    def load(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        quantization: BitsAndBytesConfig | None = None,
    ) -> SpeechModel:
        """Load a checkpoint for inference; ``dtype`` None is float32. Raises UserError if it is not a complete network.

        ``quantization`` is a transformers quantization config: linear layers are then made on ``device`` as it says.
        """

    def size(self, folder: Path) -> NetworkSize | None:
        """Return the size of the checkpoint in a folder, or None where no formula tells what a step of it takes.

        Raises UserError where there is a formula and the folder's config.json does not fit it.
        """

    def untrained(self, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
        """Return a network as the folder's config.json has it, as ``load`` makes it; no weights are read.

        Raises UserError where that describes none.
        """

    def languages(self, model: SpeechModel) -> frozenset[str]:
        """Return the codes of the languages that a model can be told; none, where it takes whatever it is told."""

    def known_languages(self, folder: Path, language: str | None) -> frozenset[str] | None:
        """Return what ``languages`` will of a model with its settings in a folder, fine-tuned for ``language`` if any.

        None where the files do not tell. No weights are read.
        """

    def refusals(self, languages: frozenset[str]) -> Refusals:
        """Return what a model of these languages cannot be asked for."""

    def transcribe(
        self,
        model: SpeechModel,
        requests: Sequence[DecodingRequest],
        context: Context,
        max_batch_clips: int | None = None,
        fallback: bool = False,
        adapters: Sequence[str] = (),
    ) -> list[Transcript]:
        """Transcribe clips in batches of like lengths, in their order; batched or alone the same words.

        At most ``max_batch_clips`` are decoded at a time; None: what suits the device. With ``fallback`` what fails is
        decoded again, and what is no speech comes back empty. ``adapters`` are those of a shared base, one for each
        clip. Raises UserError where the model does not know a clip's language, DataError for markup in its prompt.
        """

    def align(self, model: SpeechModel, requests: Sequence[AlignmentRequest]) -> list[tuple[Word, ...] | DataError]:
        """Return when each of the given words is spoken, for clips up to the window; DataError for one that cannot be.

        Raises UserError where the model does not know a clip's language.
        """

    def align_long(
        self,
        model: SpeechModel,
        windows: Iterable[SoundWindow],
        text: str,
        limits: SegmentLimits,
    ) -> LongAlignment:
        """Cut a recording of any length into segments, given the whole of its text.

        ``windows`` are in order and do not overlap, and hold what is spoken; they are read once. Raises DataError where
        the text cannot be aligned, or the family aligns clips alone: then nothing is read of them.
        """

    def without_language_model(self, model: SpeechModel) -> SpeechModel:
        """Return a model that decodes by the sound alone. Raises UserError where it has no such decoding."""

    def with_settings(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return a model that decodes by the settings in an artifact's folder, where those are not in its weights."""

    def with_weights(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return a model with the weights that ``save_pretrained`` has written into a folder."""

    def shared_base(self, model: SpeechModel) -> SharedBase:
        """Return a shared base for adapters that are ``is_mixable``; it owns the model from now on."""

    def write_fast(self, model: SpeechModel, folder: Path, quantization: Quantization) -> None:
        """Write a model's weights for the engine beside torch. Raises UserError where that is not installed.

        Raises NotExportable where the network, and not the installation, is the reason.
        """

    def runs_fast(self, device: str) -> bool:
        """Return whether its engine beside torch runs on a device (``cpu`` or ``cuda``)."""

    def load_fast(
        self, name: str, device: str = "cpu", threads: int = 0, quantization: Quantization | None = None
    ) -> FastModel:
        """Load the model ``name`` in that engine; ``threads`` 0 leaves their number as it is.

        Raises UserError where the model is missing or damaged, or the engine is not installed or cannot have it:
        NotExportable where torch can.
        """

    def is_mixable(self, folder: Path) -> bool:
        """Return whether the adapter in a folder can share a base and its batches with others."""


def family_of(folder: Path) -> Family:
    """Return the family of a checkpoint's folder, as its ``config.json`` says.

    If that names no known family, it is Whisper, whose loading reports the fault.
    """
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        kind = None
    return family_named(_family(kind) if isinstance(kind, str) else WHISPER)


def family_of_network(network: PreTrainedModel) -> Family:
    """Return the family of a network, PEFT's around it or not, as its config says."""
    return family_named(_family(network.config.model_type))


def _family(model_type: str) -> str:
    if model_type == WHISPER:  # without a look at the others: that takes seconds
        return WHISPER
    return CTC if family_named(CTC).has_type(model_type) else WHISPER


def family_named(name: str) -> Family:
    """Return the family of that name. Raises UserError for one that is not known here."""
    if name not in _MODULES:
        what = f"'{printable(name)}' is no family of models that this version knows ({', '.join(_MODULES)})"
        raise UserError(what, "a newer version may know it")
    found: Family = import_module(_MODULES[name]).FAMILY
    return found


def families() -> list[Family]:
    """Return all families."""
    return [family_named(name) for name in _MODULES]


def load_checkpoint(
    checkpoint: Checkpoint,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    quantization: BitsAndBytesConfig | None = None,
) -> SpeechModel:
    """Load a checkpoint found by ``find_checkpoint``; see ``Family.load``."""
    return family_of(checkpoint.folder).load(checkpoint, device, dtype, quantization)


def load_processor(checkpoint: Checkpoint) -> Processor:
    """Load a checkpoint's processor; see ``Family.load_processor``."""
    return family_of(checkpoint.folder).load_processor(checkpoint)


def num_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's weights; tied ones count once."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def best_device() -> str:
    """Return ``cuda`` where there is a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
