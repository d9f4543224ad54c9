from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import asr.inference.transcribe
from asr.errors import DataError
from asr.inference.language_id import vote
from asr.inference.pipeline import NOTHING_FOUND, DecodedAudio, DecodingOptions
from asr.inference.recording import Recording, Window
from asr.inference.transcribe import transcribe_recording
from asr.sound import EACH, SoundReport
from asr.transcript import DecodingRequest, Transcript
from serve.batch.assembler import Assembler
from serve.batch.window_task import RecordingTask, WindowTask
from tests.asr.inference.test_transcribe import Listener

LENGTH = 10 * 16_000


def said(number: int, position: int, of: int, language: str, text: str | None = None) -> WindowTask:
    window = Window(position * LENGTH, (position + 1) * LENGTH)
    heard = Transcript(f"{language}{position}" if text is None else text, (1,), language)
    return WindowTask(number, position, of, of * 10.0, window, heard)


def tasks(count: int, language: str | None = None) -> list[RecordingTask]:
    return [RecordingTask(number, f"{number}.wav", DecodingOptions(language)) for number in range(count)]


def test_windows_in_any_order_make_their_recordings() -> None:
    gathering = Assembler(tasks(3, "it"))
    mixed = [said(number, position, number + 2, "it") for number in range(3) for position in range(number + 2)]
    random.Random(4).shuffle(mixed)
    whole = {one.number: outcome for one in mixed if (outcome := gathering.add(one)) is not None}
    for number, recording in whole.items():
        assert isinstance(recording, Recording)
        assert recording.text.split() == [f"it{position}" for position in range(number + 2)]
    assert sorted(whole) == [0, 1, 2] and gathering.again() == gathering.rest() == []


def test_silence_and_failures_are_outcomes() -> None:
    gathering = Assembler(tasks(2))
    silent = gathering.add(WindowTask(0, 0, 0, 4.0, Window(0, 0), None))
    assert silent == Recording(4.0, None, (), (), NOTHING_FOUND)
    assert gathering.add(said(1, 0, 3, "it")) is None
    failed = WindowTask(1, 1, 3, 30.0, Window(0, 1), DataError("not_decoded"))
    assert isinstance(gathering.add(failed), DataError)
    assert gathering.add(said(1, 2, 3, "it")) is None and gathering.rest() == []


def test_what_decoding_found_is_told_with_the_recording() -> None:
    gathering = Assembler(tasks(1, "it"))
    report = SoundReport(160_000, channel=EACH, channels=2, warnings=("silence from 1 to 2 s",))
    for position, number in ((1, 1), (0, 0)):
        one = said(0, position, 2, "it")
        window = Window(position * LENGTH // 2, position * LENGTH // 2 + LENGTH, number)
        recording = gathering.add(replace(one, window=window, report=report))
    assert isinstance(recording, Recording)
    assert recording.sound == report and [segment.channel for segment in recording.segments] == [0, 1]


def test_windows_in_another_language_than_the_first_ones_are_heard_again() -> None:
    gathering = Assembler(tasks(1))
    for position, language in enumerate(["it", "en", "it", "it", "en"]):
        assert gathering.add(said(0, position, 5, language)) is None
    (again,) = gathering.again()
    assert (again.options.language, again.positions) == ("it", {1, 4})
    assert gathering.add(said(0, 4, 5, "it")) is None
    recording = gathering.add(said(0, 1, 5, "it"))
    assert isinstance(recording, Recording) and recording.text == "it0 it1 it2 it3 it4"


def test_a_file_that_changed_meanwhile_is_told() -> None:
    gathering = Assembler(tasks(1))
    for position, language in enumerate(["it", "en", "it"]):
        gathering.add(said(0, position, 3, language))
    ((number, error),) = gathering.rest()
    assert (number, error.reason) == (0, "changed")


@dataclass(frozen=True)
class Polyglot(Listener):
    """Hears in each window that it is told no language for what was drawn for it, or nothing."""

    drawn: Sequence[str] = ()
    asked: Iterator[int] = field(default_factory=itertools.count)

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        spoken = [clip.language or self.drawn[next(self.asked)] for clip in clips]
        return [Transcript("word" if language else "", (1,), language or "en") for language in spoken]


@pytest.mark.parametrize("seed", range(20))
def test_the_language_is_the_one_that_in_process_transcription_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = random.Random(seed).choices(["it", "en", "zh", ""], [2, 2, 1, 4], k=8)
    places = [Window(i * LENGTH, (i + 1) * LENGTH) for i in range(8)]
    sound = DecodedAudio(np.zeros(8 * LENGTH, np.float32), places)
    monkeypatch.setattr(asr.inference.transcribe, "open_sound", lambda *_, **__: sound)
    recording = transcribe_recording(Polyglot(drawn=drawn), b"", DecodingOptions())
    heard = [Transcript("word" if one else "", (1,), one or "en") for one in drawn]
    language, wrong = vote(None, False, places, heard)
    assert recording.language == language
    assert all(one.language == language for i, one in enumerate(heard) if one.text and i not in wrong)
    assert all(heard[i].language != language for i in wrong)
