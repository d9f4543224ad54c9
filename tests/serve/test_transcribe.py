from __future__ import annotations

from pathlib import Path

import openai
import pytest

from asr.audio import AudioLimits
from asr.errors import DataError, UserError
from asr.utterance import Utterance
from serve.engine import Engine
from serve.transcribe import transcribe


def test_a_file_gives_the_same_words_as_the_endpoint(
    engine: Engine, client: openai.OpenAI, english_clips: list[Utterance]
) -> None:
    for clip in english_clips[:3]:
        path = Path(str(clip.audio))
        heard = transcribe(engine, path, "en")
        assert heard.text == client.audio.transcriptions.create(model="tiny", file=path, language="en").text
        assert (heard.file, heard.language) == (str(path), "en")
        assert heard.duration_s == pytest.approx(clip.duration_s)
        assert heard.seconds > 0


def test_a_language_the_model_does_not_know_is_a_persons_mistake(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="English only"):
        transcribe(engine, tmp_path / "any.wav", "Italian")


def test_a_file_that_is_no_audio_is_named(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "notes.wav"
    file.write_text("these are words, not sounds")
    with pytest.raises(DataError, match=r"not_audio: .*notes\.wav"):
        transcribe(engine, file)


def test_limits_hold(engine: Engine, english_clips: list[Utterance]) -> None:
    with pytest.raises(DataError, match="too_long"):
        transcribe(engine, Path(str(english_clips[0].audio)), limits=AudioLimits(max_audio_s=0.5))
