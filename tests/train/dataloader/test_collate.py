from __future__ import annotations

import numpy as np
import torch

from asr.models.family import SpeechModel
from train.dataloader.collate import collate
from train.dataloader.preprocess import MicroBatchTensors


def test_clips_are_parted_and_collated_as_the_family_does(tiny_en: SpeechModel) -> None:
    frames, labels = [3, 5], np.array([[1, 2, 3], [4, 5, -100]])
    clips = [np.full((80, length), n, np.float16) for n, length in enumerate(frames, 1)]
    features = np.concatenate(clips, axis=1)
    features.flags.writeable = False  # as some ways through Ray leave it
    unscored = np.zeros(2, dtype=np.int64)
    row = MicroBatchTensors(
        features, np.array(frames), labels, unscored, 0.08, 1.0, audio_s=1.0, epoch=0, ids=(), faults=()
    )
    batch, expected = collate(row, tiny_en.processor), tiny_en.processor.collate(clips, labels, unscored, 0.08)
    assert batch.keys() == expected.keys() >= {"labels"}
    assert all(torch.equal(batch[name], expected[name]) for name in batch)
