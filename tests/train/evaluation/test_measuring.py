from __future__ import annotations

import atexit
import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.family import SpeechModel
from asr.utterance import Utterance
from tests.asr.scoring.test_comparison import BETTER, measured
from train.evaluation import measuring
from train.evaluation.common_set import CommonClip
from train.evaluation.measuring import Measurement, measure, measured_apart, reordered
from train.evaluation.offline import evaluate


def task(model: str, clips: list[Utterance], **changes: object) -> Measurement:
    common = [CommonClip(clip, clip.duration_s or 0.0) for clip in clips]
    return replace(Measurement(model, common, 30.0, "short", "en", "en"), **changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.weights
def test_a_model_is_measured_with_the_words_of_evaluate(
    tiny_en_name: str, tiny_en: SpeechModel, flac_clips: list[Utterance]
) -> None:
    clips = [*flac_clips[:2], replace(flac_clips[2], id="wordless", text="")]
    expected = evaluate(tiny_en, clips, "short", "en").evaluation
    reported: list[tuple[int, int]] = []
    found = measured_apart(task(tiny_en_name, clips), lambda done, total: reported.append((done, total)))
    assert reported == [(3, 3)]
    words = {one.id: one.hypothesis for one in expected.results}
    assert {one.id: one.hypothesis for one in found.evaluation.results} == words
    assert [one.id for one in found.evaluation.silence] == ["wordless"]
    assert (found.family, found.digest, found.evaluation.context) == ("whisper", tiny_en.digest, "short")
    assert found.parameters == 37_760_256 and found.weights_bytes >= 4 * found.parameters
    assert found.weights_bytes < found.peak_bytes < 8e9
    assert 0 < found.features_s < found.evaluation.seconds
    assert found.audio_decoding_s > 0
    there = [one.id for one in reordered(found, [clips[1].id, clips[0].id, "wordless"]).evaluation.results]
    assert there == [clips[1].id, clips[0].id]


@pytest.mark.medium
def test_the_time_that_a_model_takes_first_is_not_counted(small_base: str, flac_clips: list[Utterance]) -> None:
    """The shortest clip is decoded twice, and is in the results once."""
    found = measure(task(small_base, flac_clips[:3]))
    assert [one.id for one in found.evaluation.results] == [clip.id for clip in flac_clips[:3]]


@pytest.mark.medium
def test_a_clip_that_has_gone_meanwhile_ends_it(small_base: str, flac_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match=r"gone: missing_file.*it was there when the comparison began"):
        measure(task(small_base, [replace(flac_clips[0], id="gone", audio="/no/such.flac")]))


@pytest.mark.slow
def test_a_mistake_in_the_other_process_is_told_here(flac_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match="no checkpoint 'builtin:large'"):
        measured_apart(task("builtin:large", flac_clips[:1]))


def _killed(task: Measurement, connection: Connection) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_was_killed_says_whose_it_was(
    flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_child", _killed)
    with pytest.raises(UserError, match=r"m: its process was killed: is there enough memory\? \(exit code -9\)"):
        measured_apart(task("m", flac_clips[:1]))


def _tidy(task: Measurement, connection: Connection) -> None:
    atexit.register(Path(task.model).touch)
    connection.send(measured(BETTER))


@pytest.mark.slow
def test_semaphores_of_a_model_that_is_done_are_not_leaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python warned of them: the process was killed before it could give them back, which it does at its exit."""
    monkeypatch.setattr(measuring, "_child", _tidy)
    assert measured_apart(task(str(tmp_path / "ended"), [])) == measured(BETTER)
    assert (tmp_path / "ended").is_file()


def _stays(task: Measurement, connection: Connection) -> None:
    Path(task.model).write_text(str(os.getpid()))
    connection.send(measured(BETTER))
    while True:
        time.sleep(1)


@pytest.mark.slow
def test_a_process_that_does_not_end_by_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_child", _stays)
    monkeypatch.setattr(measuring, "_ENDS_S", 0.1)
    assert measured_apart(task(str(tmp_path / "process"), [])) == measured(BETTER)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)
