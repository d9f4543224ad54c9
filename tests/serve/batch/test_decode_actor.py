from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError
from asr.inference.recording import Window
from asr.transcript import DecodingRequest, Transcript
from serve.batch.decode_actor import DecodeActor, packed, unpacked
from serve.batch.window_task import WindowTask
from serve.config import ServeConfig
from tests.serve.fakes import POISON_S, FakeEngine


def window_task(number: int, seconds: float) -> WindowTask:
    clip = DecodingRequest(np.zeros((80, round(seconds * 100)), np.float16), "en")
    return WindowTask(number, 0, 1, seconds, Window(0, round(seconds * 16_000)), clip)


def decoder(folder: Path, max_batch_audio_s: float = 240.0) -> DecodeActor:
    config = ServeConfig(model="fake", max_batch_audio_s=max_batch_audio_s)
    return DecodeActor(config, lambda config: FakeEngine(config, folder))


def test_what_comes_out_is_what_went_in_with_words_for_sound(tmp_path: Path) -> None:
    failed = WindowTask(9, 0, 0, 0.0, Window(0, 0), DataError("corrupt"))
    silent = WindowTask(8, 0, 0, 4.0, Window(0, 0), None)
    given = [window_task(1, 20.0), failed, window_task(2, 3.0), silent, window_task(3, 7.0)]
    heard = unpacked(decoder(tmp_path)(packed(given)))
    assert [(one.number, one.window, one.duration_s) for one in heard] == [
        (one.number, one.window, one.duration_s) for one in given
    ]
    texts = [one.content.text for one in heard if isinstance(one.content, Transcript)]
    assert texts == ["20", "3", "7"]
    assert isinstance(heard[1].content, DataError) and heard[3].content is None


def test_batches_hold_so_much_audio_of_like_length(tmp_path: Path) -> None:
    decoder(tmp_path, 60.0).transcribe([window_task(i, 2.0 + i % 5) for i in range(7)])
    batches = [
        [clip["seconds"] for clip in json.loads(line)] for line in (tmp_path / "batches").read_text().splitlines()
    ]
    assert batches == [[2, 2], [3, 3], [4, 5], [6]]


def test_one_clip_cannot_fail_its_neighbours(tmp_path: Path) -> None:
    heard = decoder(tmp_path).transcribe([window_task(0, 3.0), window_task(1, float(POISON_S)), window_task(2, 4.0)])
    contents = [one.content for one in heard]
    assert isinstance(contents[0], Transcript) and isinstance(contents[2], Transcript)
    assert isinstance(contents[1], DataError) and contents[1].reason == "not_decoded"


def test_an_engine_that_only_fails_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="secret"):
        decoder(tmp_path).transcribe([window_task(i, float(POISON_S)) for i in range(3)])
