from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.models.whisper.tokens import prompt_ids
from asr.utterance import Utterance
from tests.train.checks.doctored import subject
from train.checks import subject as checks_subject
from train.checks.subject import spread


def test_a_sample_is_the_same_each_time_and_in_order() -> None:
    rows = [Utterance(str(i), "a.flac") for i in range(1000)]
    chosen = [int(row.id) for row in spread(rows, 24)]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 24
    assert chosen == [int(row.id) for row in spread(rows, 24)]
    assert max(chosen) > 500 > min(chosen)
    assert spread(rows[:5], 24) == rows[:5]


@pytest.mark.medium
def test_the_longest_transcripts_are_among_the_labels_however_many_rows_there_are(
    tmp_path: Path, english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_subject, "LABELS", 2)
    wordy = replace(english_clips[5], text="word " * 500)
    checked = subject(tmp_path, "builtin:tiny.en", [*english_clips[:5], wordy, *english_clips[6:12]])
    assert len(checked.labels) + len(checked.unlabelled) == 4
    assert [(row.id, row.reason) for row in checked.unlabelled] == [(wordy.id, "label_too_long")]


@pytest.mark.medium
def test_a_long_clip_is_split_where_the_configuration_says_so(tmp_path: Path, english_clips: list[Utterance]) -> None:
    segments = [{"start": 0, "end": 20, "text": "one"}, {"start": 21, "end": 40, "text": "two"}]
    long = replace(english_clips[0], duration_s=41.0, meta={"segments": segments})
    kept = subject(tmp_path, "builtin:tiny.en", [long], "data.long_clips=split")
    assert [piece.text for piece in kept.pieces(long, 41.0)] == ["one", "two"]
    assert [row.text for row, _ in kept.labels] == ["one", "two"]
    with pytest.raises(DataError, match="too_long"):
        subject(tmp_path, "builtin:tiny.en", [long]).pieces(long, 41.0)


@pytest.mark.medium
def test_the_batch_is_the_shortest_clips_as_the_network_gets_them(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:6])
    batch = checked.batch
    shortest = sorted(clip.duration_s or 0.0 for clip in english_clips[:6])[:2]
    assert batch["input_features"].shape[:2] == (2, 80)
    assert shortest[1] * 100 <= batch["input_features"].shape[2] < shortest[1] * 100 + 10
    assert batch["decoder_input_ids"][:, :2].tolist() == [prompt_ids(checked.tokenizer, "en")] * 2


def test_with_packing_the_batch_is_a_window_with_timestamps(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:4], "packing=30s")
    (inputs,) = checked.batch["decoder_input_ids"].tolist()
    no_timestamps = checked.tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    assert inputs[1] == no_timestamps + 1  # <|0.00|>
    assert no_timestamps not in inputs
    assert sum(token > no_timestamps for token in inputs) in (
        3,
        4,
    )  # starts and ends of two clips, the last shifted out
