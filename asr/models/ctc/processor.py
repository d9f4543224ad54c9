"""CTC's processor: a checkpoint's vocabulary and features, without its weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.data.segments import LabelledSegment
from asr.errors import DataError, UserError, one_line
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.alignment import positions_needed
from asr.models.ctc.decoder import LANGUAGE_MODEL, CtcDecoder, load_decoder
from asr.models.ctc.features import ClipFeatures, WhisperFeatures, load_features
from asr.models.ctc.tokenizer_files import read_vocabulary, require_matches
from asr.models.ctc.vocabulary import CtcVocabulary
from asr.models.head import NETWORK
from asr.models.processor import LONGEST_WINDOW_S
from asr.transcript import FeatureArray, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

INPUTS = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *LANGUAGE_MODEL,
)
"""Files of tokenizer, feature extractor and language model, as far as a checkpoint has them."""


@dataclass(frozen=True)
class CtcProcessor:
    """A vocabulary and features, an ``asr.models.processor.Processor``. ``folder`` is the checkpoint's.

    ``is_greedy``: what is said is decoded without the language model that may lie there.

    What goes wrong is told as ``Processor`` has it.
    """

    vocabulary: CtcVocabulary
    features: ClipFeatures
    folder: Path
    is_greedy: bool = False

    window_s = LONGEST_WINDOW_S
    max_previous_tokens = 0
    has_times = tokens_cost = False

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The network's config."""
        from asr.models.ctc.network import read_config  # with it come torch and the network

        return read_config(self.folder)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The vocabulary as transformers reads it."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def decoder(self) -> CtcDecoder:
        """The decoder of the network's emissions."""
        return CtcDecoder(self.vocabulary) if self.is_greedy else load_decoder(self.folder, self.vocabulary)

    @cached_property
    def position_s(self) -> float:
        """Seconds of one position of the encoder."""
        from asr.models.ctc.positions import position_s

        return position_s(self.config, self.features.frame_s)

    @property
    def max_label_tokens(self) -> int:
        """Positions of the longest clip: each says one symbol at most."""
        return self.num_positions(self.window_s)

    @property
    def about(self) -> str:
        """Describe the processor: its network, symbols and rate."""
        kind = "subwords" if self.vocabulary.is_subword else "characters"
        rate = f"{1 / self.position_s:g} positions a second"
        return f"CTC ({self.config.model_type}), {self.vocabulary.size} {kind}, {rate}"

    def num_positions(self, length_s: float) -> int:
        """Return the encoder's positions of a clip."""
        return self.positions_of(self.features.num_frames(round(length_s * SAMPLE_RATE)))

    @property
    def has_own_context(self) -> bool:
        """True if clips need no padding to the window, whatever the network was trained on."""
        return not isinstance(self.features, WhisperFeatures)

    def positions_of(self, num_frames: int) -> int:
        """Return the encoder's positions of so many frames."""
        from asr.models.ctc.positions import positions

        return positions(self.config, num_frames)

    def require_positions(self, ids: Sequence[int], there: int) -> None:
        """Raise DataError where symbols need more positions of the encoder than there are."""
        if (needed := positions_needed(ids)) > there:
            raise DataError("label_needs_more_frames", f"{len(ids)} symbols need {needed} positions, there are {there}")

    def require(self, language: str | None, task: Task) -> None:
        """Raise UserError for a translation: letters follow the sound. Any language may be spelled."""
        if task != "transcribe":
            raise UserError("a CTC model writes down what is said, and cannot translate", "set task=transcribe")

    def usable(self, text: str, length_s: float | None = None) -> str:
        """Return a transcript under the vocabulary's rules.

        Raises DataError for none, for letters that the vocabulary has not, and where a clip is too short for it.
        """
        ids = self._ids(text)
        if length_s is not None:
            self.require_positions(ids, self.num_positions(length_s))
        return self.vocabulary.decode(ids)

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the symbols of each text."""
        return [len(self.vocabulary.encode(text)) for text in texts]

    def around(self, language: str | None, task: Task) -> int:
        """Return none: a label is its text."""
        self.require(language, task)
        return 0

    def label(
        self, segments: Sequence[LabelledSegment], language: str | None, task: Task, timestamps: bool = False
    ) -> list[int]:
        """Return the symbols of all segments. Where their times are known there must be positions for them."""
        ids = self._ids(" ".join(segment.text for segment in segments))
        if end_s := segments[-1].end_s:
            self.require_positions(ids, self.num_positions(end_s))
        return ids

    def previous(self, text: str) -> list[int]:
        """Return nothing: no text is read."""
        return []

    def collate(
        self,
        clips: Sequence[FeatureArray],
        labels_BL: NDArray[np.int64],
        unscored_B: NDArray[np.int64],
        context_s: float,
    ) -> dict[str, torch.Tensor]:
        """Return the features, with a mask where the network takes one, else padded to the context, and ``labels``."""
        import torch

        frames = 0
        if self.features.hears_padding:  # silence behind a clip teaches the network what to say of it
            most = self.features.num_frames(round(self.window_s * SAMPLE_RATE))
            frames = min(round(context_s / self.features.frame_s) // 2 * 2, most)
        return {**self.features.pad_batch(clips, frames), "labels": torch.tensor(labels_BL, dtype=torch.int64)}

    def encoded_s(self, batch: Mapping[str, torch.Tensor]) -> float:
        """Return the seconds of all clips, each padded to the longest."""
        (shape,) = (tensor.shape for name, tensor in batch.items() if name in ("input_values", "input_features"))
        frames = shape[2] if isinstance(self.features, WhisperFeatures) else shape[1]
        return float(shape[0] * frames * self.features.frame_s)

    def save_inputs(self, folder: Path) -> None:
        """Write tokenizer and feature extractor."""
        for name in INPUTS:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def save(self, folder: Path, language: str | None, task: Task) -> None:
        """Write tokenizer, feature extractor and the config of the network, whose head goes with the vocabulary."""
        self.save_inputs(folder)
        if not (folder / NETWORK).is_file():
            shutil.copyfile(self.folder / NETWORK, folder / NETWORK)

    def _ids(self, text: str) -> list[int]:
        ids = self.vocabulary.encode(text)
        if not self.vocabulary.decode(ids).strip():
            raise DataError("no_transcript")
        return ids


def languages_of(language: str | None) -> frozenset[str]:
    """Return the language that a model was trained for; none, where that is not known: it spells any."""
    return frozenset({language}) if language else frozenset()


def load_processor(checkpoint: Checkpoint) -> CtcProcessor:
    """Load the vocabulary and the features. Raises UserError where a file is missing, damaged or does not fit."""
    vocabulary = read_vocabulary(checkpoint.folder)
    try:
        features = load_features(checkpoint.folder)
        processor = CtcProcessor(vocabulary, features, checkpoint.folder)
        size = int(processor.config.vocab_size)
        processor.num_positions(processor.window_s)  # strides of nothing are told now
    except (OSError, ValueError, ArithmeticError, RuntimeError, TypeError) as error:
        what = f"checkpoint '{checkpoint.name}' cannot be loaded as a CTC model: {one_line(error)}"
        raise UserError(what, str(checkpoint.folder)) from error
    require_matches(vocabulary, size, str(checkpoint.folder))
    return processor
