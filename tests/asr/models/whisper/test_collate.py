from __future__ import annotations

import numpy as np
import pytest
import torch

from asr.audio.features import WINDOW_FRAMES
from asr.models.processor import IGNORED
from asr.models.whisper.collate import collate

PAD = 99


def collated(
    frames: list[int], context_s: float, labels: list[list[int]], unscored: list[int] | None = None
) -> dict[str, torch.Tensor]:
    """Clips whose every value is 1, 2 ...; read-only arrays, as some ways through Ray leave them."""
    clips = [np.full((4, length), n, np.float16) for n, length in enumerate(frames, 1)]
    arrays = np.array(labels), np.array(unscored or [0] * len(frames))
    for array in (*clips, *arrays):
        array.flags.writeable = False
    return collate(clips, *arrays, context_s, PAD)


def test_clips_are_parted_and_each_is_followed_by_its_own_silence() -> None:
    batch = collated([3, 5], 0.08, [[1, 2, 3], [1, 2, IGNORED]])
    features = batch["input_features"]
    assert (features.shape, features.dtype) == ((2, 4, 8), torch.float32)
    assert features[0, 0].tolist() == [1, 1, 1, -1, -1, -1, -1, -1]
    assert features[1, 3].tolist() == [2, 2, 2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("frames", "context_s", "expected"),
    [
        ([10], 0.11, 12),  # the second convolution halves the frames: an even number
        ([15], 0.10, 16),  # never less than the clip
        ([10], 30.0, WINDOW_FRAMES),
        ([WINDOW_FRAMES], 30.0, WINDOW_FRAMES),
        ([102], 0.0, 102),  # an idle micro-batch has no context of its own
    ],
)
def test_the_context_is_even_and_holds_every_clip(frames: list[int], context_s: float, expected: int) -> None:
    assert collated(frames, context_s, [[1, 2]])["input_features"].shape[-1] == expected


def test_labels_are_one_token_ahead_of_what_the_decoder_is_given() -> None:
    batch = collated([2, 2], 0.02, [[50, 51, 7, 8, 52], [50, 51, 9, 52, IGNORED]])
    assert batch["decoder_input_ids"].tolist() == [[50, 51, 7, 8], [50, 51, 9, 52]]
    assert batch["labels"].tolist() == [[51, 7, 8, 52], [51, 9, 52, IGNORED]]


def test_the_decoder_is_given_padding_tokens_where_there_is_no_label() -> None:
    batch = collated([2, 2], 0.02, [[50, 7, 8, 9], [50, 52, IGNORED, IGNORED]])
    assert batch["decoder_input_ids"].tolist() == [[50, 7, 8], [50, 52, PAD]]
    assert batch["labels"].dtype == batch["decoder_input_ids"].dtype == torch.int64


def test_what_comes_before_start_of_transcript_is_given_but_not_scored() -> None:
    start = 50
    batch = collated([2, 2], 0.02, [[40, 41, start, 7, 8], [start, 9, 52, IGNORED, IGNORED]], [2, 0])
    assert batch["decoder_input_ids"].tolist() == [[40, 41, start, 7], [start, 9, 52, PAD]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [9, 52, IGNORED, IGNORED]]
