"""Processor of any family, without its weights: turns audio and text into the network's inputs, tokens into text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.audio.features import Context
from asr.data.segments import LabelledSegment
from asr.transcript import Task

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
    """Turns a waveform into what the network takes. Small, and it pickles: requests are prepared without weights."""

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float16 | np.float32]:
        """Return [bins, frames] for samples [samples] at 16 kHz. Raises ValueError for more than a window.

        A spectrogram is float16; a family of raw waveforms has one bin, float32, whose frames are samples.
        """

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of so many samples at 16 kHz has."""

    def encoder_s(self, num_frames: int, context: Context) -> float:
        """Return what a clip costs: the seconds of audio that the encoder sees of it."""


class Processor(Protocol):
    """A processor without the network's weights: turns audio and text into its inputs, and tokens into text.

    ``window_s`` is the longest sound that it takes at once, in seconds. A label holds ``max_label_tokens`` at most, and
    ``max_previous_tokens`` of the text before it, where the family is trained with that. ``about`` says in a few words
    what it is.
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
    def about(self) -> str: ...

    def require(self, language: str | None, task: Task) -> None:
        """Raise UserError where the checkpoint cannot be told that this language is spoken, or cannot do the task."""

    def usable(self, text: str) -> str:
        """Return a transcript as the tokenizer is given it. Raises DataError for one that cannot be learnt."""

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
        clips: Sequence[NDArray[np.float16 | np.float32]],
        labels_BL: NDArray[np.int64],
        unscored_B: NDArray[np.int64],
        context_s: float,
    ) -> dict[str, torch.Tensor]:
        """Return what the network takes for one micro-batch, with its ``labels`` int64 [B, L], ``IGNORED`` where none.

        ``clips`` are features [bins, frames of each], ``labels_BL`` padded with ``IGNORED``, ``unscored_B`` how many
        tokens at the beginning of each are not scored, ``context_s`` the seconds that the network shall see of each.
        """

    def save_inputs(self, folder: Path) -> None:
        """Write the tokenizer and the feature extractor, as transformers reads them."""

    def save(self, folder: Path, language: str | None, task: Task) -> None:
        """Write what decoding needs beside weights into an artifact: as transformers reads it."""
