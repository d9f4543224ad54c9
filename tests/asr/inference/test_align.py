from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, encode_flac
from asr.audio.sandbox import decode_utterance
from asr.inference.align import Aligned, align
from asr.models.alignment import SegmentLimits
from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    folder = tiny.write(tmp_path_factory.mktemp("align") / "model", "wav2vec2-base-960h")
    return load_checkpoint(Checkpoint("tiny", folder, "sha256:1", language="en"))


def by_id(model: SpeechModel, *rows: Utterance, limits: SegmentLimits | None = None) -> dict[str, Aligned]:
    return {one.source.id: one for one in align(model, rows, limits or SegmentLimits(20.0, -100.0))}


@pytest.fixture
def recording(english_clips: Sequence[Utterance], tmp_path: Path) -> Utterance:
    """Prompts one after the other, over 30 s, with their whole text."""
    sounds = [decode_utterance(clip) for clip in english_clips[:8]]
    pause = np.zeros(SAMPLE_RATE, np.float32)
    whole = np.concatenate([part for sound in sounds for part in (pause, sound)])
    assert len(whole) > 32 * SAMPLE_RATE
    (tmp_path / "long.flac").write_bytes(encode_flac(whole))
    text = " ".join(clip.text for clip in english_clips[:8])
    return Utterance("long", str(tmp_path / "long.flac"), text, meta={"topic": "a", "segments": []})


@pytest.mark.medium
def test_a_clip_is_its_row_with_words(model: SpeechModel, english_clips: Sequence[Utterance]) -> None:
    clip = replace(english_clips[0], meta={"topic": "a"})
    (row,) = by_id(model, clip)[clip.id].rows
    words = row.meta["words"]
    assert " ".join(word["text"] for word in words) == " ".join(clip.text.split())
    assert replace(row, meta=clip.meta, duration_s=clip.duration_s) == clip
    assert row.meta["topic"] == "a"
    times = [word[edge] for word in words for edge in ("start", "end")]
    assert times == sorted(times) and times[-1] <= (row.duration_s or 0.0)


@pytest.mark.medium
def test_times_count_from_the_beginning_of_a_stretch(model: SpeechModel, recording: Utterance) -> None:
    stretch = replace(recording, text="a few words", start_s=8.0, end_s=12.0)
    (row,) = by_id(model, stretch)["long"].rows
    assert (row.start_s, row.end_s, row.duration_s) == (8.0, 12.0, 4.0)
    assert row.meta["words"][-1]["end"] <= 4.0


@pytest.mark.medium
def test_a_recording_is_cut_into_stretches_of_itself(model: SpeechModel, recording: Utterance) -> None:
    found = by_id(model, recording)["long"]
    assert found.is_long and found.sound_s > 32
    assert found.rows
    assert [row.id for row in found.rows] == [f"long#{number}" for number in range(len(found.rows))]
    edges = [edge for row in found.rows for edge in (row.start_s, row.end_s or 0.0)]
    assert edges == sorted(edges) and edges[0] >= 0.0 and edges[-1] <= found.sound_s + 0.1
    for row in found.rows:
        assert row.duration_s == pytest.approx((row.end_s or 0.0) - row.start_s) and row.duration_s <= 20.0
        assert set(row.meta) == {"topic", "confidence"}
    said = " ".join(row.text for row in found.rows)
    left_out = sum(int(end) - int(start) for start, end in (one.id[5:-1].split(":") for one in found.quarantined))
    assert len(said) + left_out == pytest.approx(len(recording.text), abs=2 * (len(found.quarantined) + 1))


@pytest.mark.medium
def test_a_stretch_of_a_recording_is_cut_with_times_of_the_file(model: SpeechModel, recording: Utterance) -> None:
    found = by_id(model, replace(recording, start_s=1.0, end_s=32.0))["long"]
    assert found.sound_s == pytest.approx(31.0, abs=0.01)
    assert all(1.0 <= row.start_s < (row.end_s or 0.0) <= 32.1 for row in found.rows)


@pytest.mark.medium
def test_under_the_confidence_all_is_left_out_by_name(model: SpeechModel, recording: Utterance) -> None:
    found = by_id(model, recording, limits=SegmentLimits(20.0, -1e-6))["long"]
    assert found.rows == ()
    assert {one.reason for one in found.quarantined} <= {"low_confidence", "not_spoken"}
    assert all(one.id.startswith("long[") for one in found.quarantined)


@pytest.mark.medium
def test_what_cannot_be_aligned_is_quarantined_and_costs_no_other(
    model: SpeechModel, english_clips: Sequence[Utterance], tmp_path: Path
) -> None:
    clip = english_clips[0]
    (tmp_path / "silence.flac").write_bytes(encode_flac(np.zeros(32_000, np.float32)))
    rows = [
        clip,
        replace(clip, id="gone", audio=str(tmp_path / "gone.flac")),
        replace(clip, id="mute", audio=str(tmp_path / "silence.flac")),
        replace(clip, id="wordless", text=" ... "),
        replace(clip, id="foreign", text="Жук"),
        replace(clip, id="too much", text=clip.text * 50),
    ]
    found = by_id(model, *rows)
    assert len(found[clip.id].rows) == 1
    reasons = {id: one.quarantined[0].reason for id, one in found.items() if id != clip.id}
    assert reasons == {
        "gone": "missing_file",
        "mute": "silent",
        "wordless": "no_transcript",
        "foreign": "unknown_letters",
        "too much": "label_needs_more_frames",
    }
