"""Collation: turns one micro-batch from Ray Data into the inputs of the family's network."""

from __future__ import annotations

import numpy as np
import torch

from asr.models.processor import Processor
from train.dataloader.preprocess import MicroBatchTensors


def collate(row: MicroBatchTensors, processor: Processor) -> dict[str, torch.Tensor]:
    """Return the network's inputs for one micro-batch; see ``asr.models.family.Processor.collate``."""
    ends = np.cumsum(row.frames_B).tolist()
    clips = [row.features_MT[:, end - frames : end] for end, frames in zip(ends, row.frames_B.tolist(), strict=True)]
    return processor.collate(clips, row.labels_BL, row.unscored_B, row.context_s)
