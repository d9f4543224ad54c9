"""Processor of any family, without its weights: turns audio and text into the network's inputs, tokens into text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.audio.features import Context
from asr.data.segments import LabelledSegment
from asr.errors import DataError, UserError
from asr.language import NAMES
from asr.transcript import FeatureArray, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a position that the loss leaves out, as in transformers."""

LONGEST_LABEL = 448
"""Tokens of the longest label of any family: what a micro-batch must have room for before a checkpoint is known."""

LONGEST_WINDOW_S = 30.0
"""Seconds that any family takes at most at once."""

LONGEST_PROMPT = 223
"""Tokens that any family reads at most of the text before a clip."""


class Features(Protocol):
    """Turns a waveform into what the network takes. Small, and it pickles: requests are prepared without weights.

    ``is_spectrogram`` says whether bands and stretches can be masked in them.
    """

    @property
    def is_spectrogram(self) -> bool: ...

    def __call__(self, waveform: NDArray[np.float32]) -> FeatureArray:
        """Return [bins, frames] for samples [samples] at 16 kHz. Raises ValueError for more than a window."""

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of so many samples at 16 kHz has."""

    def encoder_s(self, num_frames: int, context: Context) -> float:
        """Return what a clip costs: the seconds of audio that the encoder sees of it."""


class Processor(Protocol):
    """A processor without the network's weights: turns audio and text into its inputs, and tokens into text.

    ``window_s`` is the longest sound that it takes at once, in seconds. A label holds ``max_label_tokens`` at most, and
    ``max_previous_tokens`` of the text before it, where the family is trained with that. ``has_times`` says whether a
    label may hold times, ``tokens_cost`` whether its tokens take memory and time beside the sound's. ``about`` says in
    a few words what it is.
    """

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def features(self) -> Features: ...
    @property
    def window_s(self) -> float: ...
    @property
    def max_label_tokens(self) -> int: ...
    @property
    def max_previous_tokens(self) -> int: ...
    @property
    def has_times(self) -> bool: ...
    @property
    def tokens_cost(self) -> bool: ...
    @property
    def about(self) -> str: ...

    def require(self, language: str | None, task: Task) -> None:
        """Raise UserError where the checkpoint cannot be told that this language is spoken, or cannot do the task."""

    def usable(self, text: str, length_s: float | None = None) -> str:
        """Return a transcript as the tokenizer is given it.

        Raises DataError for one that cannot be learnt, or not from a clip of ``length_s`` seconds.
        """

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, as ``usable`` returns them."""

    def around(self, language: str | None, task: Task) -> int:
        """Return how many tokens of a label are not of its text. Raises UserError as ``require``."""

    def label(
        self, segments: Sequence[LabelledSegment], language: str | None, task: Task, timestamps: bool = False
    ) -> list[int]:
        """Return the tokens that the network is to say of a clip.

        Raises UserError as ``require``; DataError as ``usable``, or label_too_long.
        """

    def previous(self, text: str) -> list[int]:
        """Return the tokens of the text before a clip, which stand ahead of its label and are not scored."""

    def collate(
        self,
        clips: Sequence[FeatureArray],
        labels_BL: NDArray[np.int64],
        unscored_B: NDArray[np.int64],
        context_s: float,
    ) -> dict[str, torch.Tensor]:
        """Return what the network takes for one micro-batch, with its ``labels`` int64 [B, L], ``IGNORED`` where none.

        ``clips`` are features [bins, frames of each], ``labels_BL`` padded with ``IGNORED``, ``unscored_B`` how many
        tokens at the beginning of each are not scored, ``context_s`` the seconds that the network shall see of each.
        """

    def encoded_s(self, batch: Mapping[str, torch.Tensor]) -> float:
        """Return the seconds of audio that the encoder is given in a collated batch, padding included."""

    def save_inputs(self, folder: Path) -> None:
        """Write the tokenizer and the feature extractor, as transformers reads them."""

    def save(self, folder: Path, language: str | None, task: Task) -> None:
        """Write what decoding needs beside weights into an artifact: as transformers reads it."""


def require_row(processor: Processor, language: str | None, task: Task) -> None:
    """Raise DataError for a row whose language no Whisper has a token for, where the processor needs one.

    Another language that it does not know is not the row's fault: see ``Processor.require``.
    """
    if language is not None and language not in NAMES:
        try:
            processor.require(language, task)
        except UserError as error:
            raise DataError("unknown_language", str(error)) from None
