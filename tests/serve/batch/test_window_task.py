from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio import sandbox
from asr.audio.decode import SAMPLE_RATE, encode_flac
from asr.audio.features import LogMel
from asr.audio.sandbox import Child
from asr.errors import DataError
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions, open_sound
from asr.sound import EACH, SoundChoice
from asr.transcript import DecodingRequest
from serve.batch.window_task import LIMITS, RecordingTask, cost_s, window_tasks
from tests.asr.sounds import wav16
from tests.serve.expendable import ABORT
from tests.serve.fakes import LANGUAGES, babble, voice

INFO = ModelInfo("listener", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))
ASKED = DecodingOptions("it", False, "translate", "Digium", 0.0, True, True)


@pytest.mark.medium
def test_a_recording_is_cut_into_the_windows_of_the_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    path.write_bytes(voice(70.0))
    found = list(window_tasks(RecordingTask(7, str(path), ASKED), INFO))
    sound = open_sound(path.read_bytes(), limits=LIMITS)
    assert [one.window for one in found] == list(sound.windows)
    assert [(one.number, one.position, one.of) for one in found] == [(7, i, len(found)) for i in range(len(found))]
    for one in found:
        assert isinstance(one.content, DecodingRequest)
        features = INFO.features(sound.waveform[one.window.start : one.window.end])
        assert np.array_equal(one.content.features, features)
        assert ASKED.clip(features, "it").prompt == one.content.prompt and one.content.task == "translate"
        assert cost_s(one.content, INFO) == 30.0
    (again,) = window_tasks(RecordingTask(7, str(path), ASKED, frozenset({1})), INFO)
    assert (again.position, again.of, again.window) == (1, len(found), sound.windows[1])
    (third,) = window_tasks(RecordingTask(7, str(path), ASKED, frozenset({2})), INFO)
    assert isinstance(third.content, DecodingRequest) and isinstance(found[2].content, DecodingRequest)
    assert np.array_equal(third.content.features, found[2].content.features), "not those of the first"


@pytest.mark.medium
def test_each_channel_is_cut_into_windows_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav16(np.stack([babble(40.0), np.resize(babble(4.0), 640_000)], axis=1), channels=2))
    task = RecordingTask(0, str(path), ASKED, sound=SoundChoice(channel=EACH))
    found = list(window_tasks(task, INFO))
    assert {one.window.channel for one in found} == {0, 1}
    assert [one.position for one in found] == list(range(found[0].of))
    assert {(one.report.channel, one.report.channels) for one in found} == {(EACH, 2)}
    (again,) = window_tasks(replace(task, positions=frozenset({2})), INFO)
    assert (again.window, again.position) == (found[2].window, 2)
    assert isinstance(again.content, DecodingRequest) and isinstance(found[2].content, DecodingRequest)
    assert np.array_equal(again.content.features, found[2].content.features)


@pytest.mark.medium
def test_silence_is_one_passage_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quiet.flac"
    path.write_bytes(encode_flac(np.zeros(4 * SAMPLE_RATE, np.float32)))
    (only,) = window_tasks(RecordingTask(0, str(path), ASKED), INFO)
    assert (only.of, only.content, only.duration_s) == (0, None, 4.0)


@pytest.mark.medium
def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (only,) = window_tasks(RecordingTask(0, str(tmp_path / "gone.wav"), ASKED), INFO)
    assert isinstance(only.content, DataError) and only.content.reason == "missing_file"


@pytest.mark.medium
def test_one_that_kills_its_decoder_is_a_row_of_the_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("bad", ABORT), ("good", encode_flac(np.zeros(SAMPLE_RATE, np.float32)))):
        (tmp_path / name).write_bytes(content)
    child = Child("tests.serve.expendable")
    monkeypatch.setattr(sandbox, "own", lambda: child)
    (only,) = window_tasks(RecordingTask(0, str(tmp_path / "bad"), ASKED), INFO)
    assert isinstance(only.content, DataError) and only.content.reason == "decoder_died"
    assert only.content.detail == f"{tmp_path / 'bad'}: decoding ended with SIGABRT"
    monkeypatch.undo()
    (only,) = window_tasks(RecordingTask(0, str(tmp_path / "good"), ASKED), INFO)
    assert (only.content, only.duration_s) == (None, 1.0)
