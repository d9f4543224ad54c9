"""The last step before the network: clips padded to the context of their batch, labels shifted for the decoder."""

from __future__ import annotations

import numpy as np
import torch

from asr.audio.features import FRAMES_PER_S, WINDOW_FRAMES, pad
from asr.models.whisper.tokens import IGNORED
from train.dataloader.preprocess import MicroBatchTensors


def collate(row: MicroBatchTensors, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return what the network takes for one micro-batch of B clips.

    input_features     float32 [B, mel bins, context frames]
    decoder_input_ids  int64 [B, L - 1], from start-of-transcript on, or from the text before it
    labels             int64 [B, L - 1], one token ahead of the inputs, -100 where none is scored
    """
    clips = np.split(row.features_MT, np.cumsum(row.frames_B)[:-1], axis=1)
    context = max(int(row.context_s * FRAMES_PER_S), int(row.frames_B.max()))
    context = min(context + context % 2, WINDOW_FRAMES)  # the second convolution halves the frames
    tokens = torch.tensor(row.labels_BL, dtype=torch.int64)
    inputs, labels = tokens[:, :-1].clone(), tokens[:, 1:].clone()
    inputs[inputs == IGNORED] = pad_token_id
    labels[torch.arange(labels.shape[1]) < torch.tensor(row.unscored_B)[:, None]] = IGNORED
    return {"input_features": torch.from_numpy(pad(clips, context)), "decoder_input_ids": inputs, "labels": labels}
