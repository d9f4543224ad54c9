"""Features of CTC networks, as a checkpoint's own feature extractor makes them, and the padding of a batch of them.

No network is imported here: requests and training rows are prepared in processes that have none.

Legend: B clips, F frames: columns of a spectrogram, or samples of a waveform.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, WhisperFeatureExtractor

from asr.audio.decode import SAMPLE_RATE
from asr.audio.features import FRAMES_PER_S, Context, LogMel, context_frames, filters_of, pad
from asr.errors import UserError
from asr.models.extractor_settings import require_sane
from asr.printable import printable
from asr.transcript import FeatureArray

if TYPE_CHECKING:
    import torch
    from transformers import SequenceFeatureExtractor


# Shorter clips end in silence. Statistics of a clip and SpecAugment need more than a position or two, and so does SEW.
_LEAST_S = 0.2
_LONGEST_POSITION_S = 0.02  # of the networks whose config has SpecAugment

_LONGEST_MASK = 1500  # positions of 20 ms in 30 s

# Where a network hears the padding behind a clip, a clip is padded to a multiple of this: a length of the clip alone.
_STEP_S = 0.5

# Networks, by the ``model_type`` of their configs, of which tests say that an attention mask hides padding from them
# for good: a clip says the same alone and in a batch. In others it leaks through convolutions between the layers.
_DEAF_TO_PADDING = (
    "granite_speech5_ctc",
    "hubert",
    "lasr_ctc",
    "parakeet_ctc",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-bert",
    "wavlm",
)


class ClipFeatures(ABC):
    """Features of one clip, a ``asr.models.processor.Features``, and of a batch. It pickles, without a network.

    ``frame_s`` are the seconds from a frame to the next. ``is_spectrogram`` says whether bands of time and frequency
    may be masked in them. ``hears_padding``: only clips of the same ``padded_frames`` may share a batch.
    """

    frame_s: float
    is_spectrogram: bool
    hears_padding: bool

    @abstractmethod
    def __call__(self, waveform: NDArray[np.float32]) -> FeatureArray:
        """Return [bins, frames] of a clip's true length."""

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of so many samples has."""

    @abstractmethod
    def padded_frames(self, num_frames: int, context: Context = "short") -> int:
        """Return the frames that a network is given for a clip alone; they depend on nothing else."""

    @abstractmethod
    def pad_batch(self, clips: Sequence[FeatureArray], num_frames: int = 0) -> dict[str, torch.Tensor]:
        """Return what the network takes for B clips [bins, frames of each], padded to the longest or ``num_frames``.

        input_values      float32 [B, F], of waveforms
        input_features    float32 [B, F, bins]; of Whisper [B, bins, F]
        attention_mask    int32 [B, F], 1 on a clip's own frames: only where the checkpoint wants one
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the feature extractor as transformers reads it."""

    def encoder_s(self, num_frames: int, context: Context) -> float:
        """Return the seconds of audio that the encoder sees of so many frames."""
        return self.padded_frames(num_frames, context) * self.frame_s


@dataclass(frozen=True)
class ExtractedFeatures(ClipFeatures):
    """Features as one of transformers' extractors makes them of a clip alone, without the columns that it masks.

    A clip has at least ``least`` samples, and a frame for each ``step`` of them, when ``offset`` are added.
    """

    extractor: SequenceFeatureExtractor
    frame_s: float
    is_spectrogram: bool
    hears_padding: bool
    has_mask: bool
    least: int
    step: int
    offset: int

    def __call__(self, waveform: NDArray[np.float32]) -> FeatureArray:
        """Return float16 [bins, frames], or float32 [1, samples] of a waveform. A short clip ends in silence.

        A waveform is normalised as the extractor is set to, over the clip's own samples.
        """
        if not self.is_spectrogram:
            values = np.asarray(_extracted(self.extractor, waveform), dtype=np.float32)
            return np.pad(values, (0, max(self.least - len(values), 0)))[None]
        padded = np.pad(waveform, (0, max(self.least - len(waveform), 0)))
        return _extracted(self.extractor, padded).T.astype(np.float16)

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of so many samples has."""
        return (max(num_samples, self.least) + self.offset) // self.step

    def padded_frames(self, num_frames: int, context: Context = "short") -> int:
        """Return the frames of a clip alone: its own, or the next multiple of half a second where padding is heard."""
        if not self.hears_padding:
            return num_frames
        step = round(_STEP_S / self.frame_s)
        return -(-num_frames // step) * step

    def pad_batch(self, clips: Sequence[FeatureArray], num_frames: int = 0) -> dict[str, torch.Tensor]:
        """Return ``input_values`` or ``input_features``, and ``attention_mask`` where the checkpoint wants one."""
        import torch  # preparing a clip needs none

        lengths = [clip.shape[1] for clip in clips]
        longest = max(num_frames, *(self.padded_frames(length) for length in lengths))
        values = torch.full((len(clips), longest, len(clips[0])), float(self.extractor.padding_value))
        for row, clip in zip(values, clips, strict=True):
            row[: clip.shape[1]] = torch.from_numpy(clip.T)
        batch = {"input_features": values} if self.is_spectrogram else {"input_values": values[..., 0]}
        if self.has_mask:
            batch["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).to(torch.int32)
        return batch

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json."""
        self.extractor.save_pretrained(folder)


class WhisperFeatures(LogMel, ClipFeatures):
    """Whisper's log-mel features, a clip's silence behind it: its encoder takes no mask."""

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        super().__init__(filters_of(extractor))
        self._extractor = extractor

    frame_s = 1 / FRAMES_PER_S
    is_spectrogram = True
    hears_padding = True

    def padded_frames(self, num_frames: int, context: Context = "short") -> int:
        """Return the frames of a clip's context, as Whisper's decoding has it."""
        return context_frames(num_frames, context)

    def pad_batch(self, clips: Sequence[FeatureArray], num_frames: int = 0) -> dict[str, torch.Tensor]:
        """Return ``input_features`` [B, mel bins, F]."""
        import torch

        longest = max(num_frames, *(self.padded_frames(clip.shape[1]) for clip in clips))
        return {"input_features": torch.from_numpy(pad(clips, longest))}

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json."""
        self._extractor.save_pretrained(folder)


def load_features(folder: Path) -> ClipFeatures:
    """Load the features of a checkpoint's folder, from its feature extractor's settings and its config.json.

    Raises OSError or ValueError where a file is missing or damaged, UserError where a package is missing.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    require_sane(folder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:  # of Granite's
        raise UserError(f"the features of {folder} need another package", str(error).strip().splitlines()[-1]) from None
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ValueError(f"it takes {extractor.sampling_rate} Hz; here are {SAMPLE_RATE}")
    if isinstance(extractor, WhisperFeatureExtractor):
        return WhisperFeatures(extractor)
    is_spectrogram = extractor.model_input_names[0] == "input_features"
    # Without one, a spectrogram's extractor has no setting of it: its network wants a mask.
    has_mask = bool(getattr(extractor, "return_attention_mask", None) or is_spectrogram)
    span = settings.get("mask_time_length", 0)  # transformers refuses a batch of fewer positions
    if not isinstance(span, int) or not 0 <= span <= _LONGEST_MASK:
        raise ValueError(f"its mask_time_length is {printable(str(span), 20)}")
    least = round((max(_LEAST_S, (span + 1) * _LONGEST_POSITION_S)) * SAMPLE_RATE)
    step, offset = _steps(extractor) if is_spectrogram else (1, 0)
    return ExtractedFeatures(
        extractor,
        frame_s=step / SAMPLE_RATE,
        is_spectrogram=is_spectrogram,
        hears_padding=not (has_mask and _is_deaf(settings)),
        has_mask=has_mask,
        least=least,
        step=step,
        offset=offset,
    )


def _extracted(extractor: SequenceFeatureExtractor, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what an extractor makes of a clip alone: samples, or [frames, bins] without those that it masks."""
    made = extractor(waveform, sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="np")
    values: NDArray[np.float32] = np.asarray(made[extractor.model_input_names[0]][0])
    own: NDArray[np.float32] = values[np.asarray(made["attention_mask"][0], dtype=bool)]
    return own


def _steps(extractor: SequenceFeatureExtractor) -> tuple[int, int]:
    """Return how many samples make a frame, and how many to add first: measured, as every extractor has its own."""

    def frames(num_samples: int) -> int:
        return len(_extracted(extractor, np.zeros(num_samples, dtype=np.float32)))

    start = SAMPLE_RATE // 4
    here, ends = frames(start), range(start + 1, start + SAMPLE_RATE // 8)
    first, second = (ends[bisect_left(ends, here + more, key=frames)] for more in (1, 2))
    step = second - first
    return step, (here + 1) * step - first


def _is_deaf(settings: dict[str, object]) -> bool:
    """Return whether a mask hides padding from the network of a config.json.

    A norm over a whole clip's samples hears it, and so do the strides of an adapter and a norm before convolutions.
    """
    hearing = (
        settings.get("feat_extract_norm") == "group",
        settings.get("add_adapter"),
        settings.get("conv_pos_batch_norm"),
    )
    return settings.get("model_type") in _DEAF_TO_PADDING and not any(hearing)
