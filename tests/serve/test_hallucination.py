"""Nobody speaks, so there are no words: through the whole way of a request, from the file's bytes to its text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.data.sources.prompts import fetch
from asr.inference.engine import Engine, load_engine
from asr.inference.pipeline import DecodingOptions
from asr.inference.transcribe import transcribe_recording
from asr.io.cache import cache_root
from asr.scoring.error_rates import score
from asr.utterance import Utterance
from tests.asr.noises import noises

# What the packages of telephone prompts hold besides speech.
SIGNALS = ("ascending-2tone", "beep", "beeperr", "confbridge-leave", "descending-2tone", "tt-monkeys")


BOTH = pytest.mark.parametrize("model", ["tiny.en", pytest.param("base", marks=pytest.mark.slow)], indirect=True)
# What a model adds to speech needs it to hear that speech several times, which takes the larger one long.
SMALL_FIRST = pytest.mark.parametrize("model", ["tiny.en", pytest.param("base", marks=pytest.mark.long)], indirect=True)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tiny_en_name: str) -> Engine:
    return load_engine(tiny_en_name if request.param == "tiny.en" else "builtin:base", request.param, threads=1)


def said(model: Engine, waveform: np.ndarray, language: str | None = "en") -> str:
    recording = transcribe_recording(
        model, encode_flac(waveform), DecodingOptions(language, timestamps=True, words=True)
    )
    assert bool(recording.text) == bool(recording.segments) == bool(recording.words)
    return recording.text


@BOTH
@pytest.mark.slow
def test_noise_and_music_have_no_words(model: Engine) -> None:
    made = noises(6.0)
    assert len(made) > 90
    assert {kind: said(model, noise, None) for kind, noise in made.items()} == dict.fromkeys(made, "")


@BOTH
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("seconds", [None, 8.0])
def test_signals_of_a_telephone_have_no_words(model: Engine, name: str, seconds: float | None) -> None:
    file = next(fetch("en", cache_root()).rglob(f"{name}.g722"))
    waveform = decode(str(file), container="g722")
    repeated = waveform if seconds is None else np.resize(waveform, round(seconds * SAMPLE_RATE))
    assert said(model, repeated) == ""


@BOTH
def test_a_silent_file_of_any_length_has_no_words(model: Engine) -> None:
    files = sorted(fetch("en", cache_root()).rglob("silence/*.g722"))
    assert len(files) > 5
    assert {said(model, decode(str(file), container="g722")) for file in files} == {""}


@SMALL_FIRST
@pytest.mark.slow
def test_a_quiet_voice_keeps_its_words(model: Engine, english_clips: list[Utterance]) -> None:
    for clip in english_clips[:2]:
        waveform = decode(Path(str(clip.audio)))
        loud = said(model, waveform)
        for level_dbfs in (-40.0, -55.0):
            gain = 10 ** (level_dbfs / 20) / np.sqrt(np.square(waveform).mean())
            quiet = said(model, waveform * np.float32(gain))
            assert score([loud], [quiet], "normalised", "en").rate < 0.1, (level_dbfs, loud, quiet)
            assert len(quiet.split()) >= 8


@SMALL_FIRST
def test_music_before_and_after_speech_adds_no_word(model: Engine, english_clips: list[Utterance]) -> None:
    waveform = decode(Path(str(english_clips[0].audio)))
    music = noises(6.0)["chords at -23 dB"]
    among = said(model, np.concatenate([music, waveform, music]))
    assert score([said(model, waveform)], [among], "normalised", "en").rate < 0.15, among
