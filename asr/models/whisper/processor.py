"""Whisper's processor: a checkpoint's tokenizer and features for a network's inputs, without its weights.

A module of its own, because tasks that prepare data start without importing any network: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from asr.audio.features import FRAMES_PER_S, WINDOW_S, LogMel, filters_of
from asr.data.segments import LabelledSegment
from asr.errors import UserError, one_line
from asr.models.checkpoint import Checkpoint
from asr.models.extractor_settings import require_sane
from asr.models.whisper.tokens import (
    MAX_PREVIOUS_TOKENS,
    MAX_TOKENS,
    is_multilingual,
    label_ids,
    previous_ids,
    prompt_ids,
    spoken,
    window_ids,
)
from asr.transcript import FeatureArray, Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WhisperProcessor:
    """Whisper's tokenizer and log-mel features, a ``asr.models.processor.Processor``. ``folder`` is the checkpoint's.

    What goes wrong is told as ``Processor`` has it.
    """

    tokenizer: WhisperTokenizer
    extractor: WhisperFeatureExtractor
    folder: Path

    window_s = WINDOW_S
    max_label_tokens = MAX_TOKENS
    max_previous_tokens = MAX_PREVIOUS_TOKENS
    has_times = tokens_cost = True

    @cached_property
    def features(self) -> LogMel:
        """Log-mel features, as the extractor's settings have them."""
        return LogMel(filters_of(self.extractor))

    @property
    def about(self) -> str:
        """Describe the processor: multilingual or English only, and its mel bins."""
        kind = "multilingual" if is_multilingual(self.tokenizer) else "English only"
        return f"{kind}, {self.features.bins} mel bins"

    def require(self, language: str | None, task: Task) -> None:
        """Raise UserError where there is no token for the language, or none for the task."""
        prompt_ids(self.tokenizer, language, task)

    def usable(self, text: str, length_s: float | None = None) -> str:
        """Return a transcript with the space that it begins with. Raises DataError for none, or markup in it."""
        return spoken(text)

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False).input_ids] if texts else []

    def around(self, language: str | None, task: Task) -> int:
        """Return the tokens of prompt and end."""
        return len(prompt_ids(self.tokenizer, language, task)) + 1

    def label(
        self, segments: Sequence[LabelledSegment], language: str | None, task: Task, timestamps: bool = False
    ) -> list[int]:
        """Return prompt, text and end; with ``timestamps`` each segment stands between its times."""
        prompt = prompt_ids(self.tokenizer, language, task, timestamps)
        if timestamps:
            return window_ids(self.tokenizer, segments, prompt)
        return label_ids(self.tokenizer, "".join(segment.text for segment in segments), prompt)

    def previous(self, text: str) -> list[int]:
        """Return ``<|startofprev|>`` and the last 223 tokens of the text before."""
        return previous_ids(self.tokenizer, text)

    def collate(
        self,
        clips: Sequence[FeatureArray],
        labels_BL: NDArray[np.int64],
        unscored_B: NDArray[np.int64],
        context_s: float,
    ) -> dict[str, torch.Tensor]:
        """Return ``input_features`` padded to the context, ``decoder_input_ids`` and ``labels``, a token ahead."""
        from asr.models.whisper.collate import collate  # with it comes torch

        return collate(clips, labels_BL, unscored_B, context_s, int(self.tokenizer.pad_token_id))

    def encoded_s(self, batch: Mapping[str, torch.Tensor]) -> float:
        """Return the seconds of all clips, each padded to the context."""
        clips, _, frames = batch["input_features"].shape
        return float(clips * frames / FRAMES_PER_S)

    def save_inputs(self, folder: Path) -> None:
        """Write tokenizer and feature extractor."""
        self.tokenizer.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    def save(self, folder: Path, language: str | None, task: Task) -> None:
        """Write tokenizer, feature extractor and generation config."""
        from transformers import GenerationConfig  # with it comes torch

        self.save_inputs(folder)
        generation = GenerationConfig.from_pretrained(self.folder)
        if generation.is_multilingual:  # so that a plain transformers pipeline decodes as it was trained to
            generation.language, generation.task = language, task
        generation.save_pretrained(folder)


def load_processor(checkpoint: Checkpoint) -> WhisperProcessor:
    """Load the processor of text and audio, without the network's weights.

    Raises UserError where a file is missing or damaged.
    """
    # Without these transformers goes on, with an empty vocabulary, or stops each transcript after 20 tokens.
    for names in (("tokenizer.json", "vocab.json"), ("generation_config.json",)):
        if not any((checkpoint.folder / name).is_file() for name in names):
            raise UserError(
                f"checkpoint '{checkpoint.name}' has no {names[0]}", f"copy it to {checkpoint.folder} from its base"
            )
    with loading(checkpoint):
        require_sane(checkpoint.folder)
        extractor = WhisperFeatureExtractor.from_pretrained(checkpoint.folder)
        tokenizer = WhisperTokenizer.from_pretrained(checkpoint.folder)
        filters_of(extractor)  # frames of another length are refused here
        return WhisperProcessor(tokenizer, extractor, checkpoint.folder)


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Raise UserError where what is read in the block is missing, damaged or no Whisper."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        raise UserError(
            f"checkpoint '{checkpoint.name}' cannot be loaded as Whisper: {reason}", str(checkpoint.folder)
        ) from error
