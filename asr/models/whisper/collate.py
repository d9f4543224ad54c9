"""Whisper's collation: pads clips to the context of their batch, and shifts labels for the decoder.

Legend: B clips of a micro-batch, L label tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asr.audio.features import FRAMES_PER_S, WINDOW_FRAMES, pad
from asr.models.processor import IGNORED


def collate(
    clips: Sequence[NDArray[np.float16 | np.float32]],
    labels_BL: NDArray[np.int64],
    unscored_B: NDArray[np.int64],
    context_s: float,
    pad_token_id: int,
) -> dict[str, torch.Tensor]:
    """Return what the network takes for one micro-batch of B clips [mel bins, frames of each].

    input_features     float32 [B, mel bins, context frames]
    decoder_input_ids  int64 [B, L - 1], from start-of-transcript on, or from the text before it
    labels             int64 [B, L - 1], one token ahead of the inputs, -100 where none is scored
    """
    context = max(int(context_s * FRAMES_PER_S), *(clip.shape[1] for clip in clips))
    context = min(context + context % 2, WINDOW_FRAMES)  # the second convolution halves the frames
    tokens = torch.tensor(labels_BL, dtype=torch.int64)
    inputs, labels = tokens[:, :-1].clone(), tokens[:, 1:].clone()
    inputs[inputs == IGNORED] = pad_token_id
    labels[torch.arange(labels.shape[1]) < torch.tensor(unscored_B)[:, None]] = IGNORED
    return {"input_features": torch.from_numpy(pad(clips, context)), "decoder_input_ids": inputs, "labels": labels}
