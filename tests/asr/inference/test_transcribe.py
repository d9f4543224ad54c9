from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.audio.features import LogMel
from asr.data.sources.prompts import fetch, utterances
from asr.errors import DataError, UserError
from asr.inference.engine import Engine
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions
from asr.inference.transcribe import transcribe, transcribe_recording
from asr.io.cache import cache_root
from asr.scoring.error_rates import score
from asr.sound import EACH, SoundChoice
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from serve.config import ServeConfig
from serve.replica.engine_loader import load_engine
from tests.asr.sounds import wav16
from tests.serve.fakes import LANGUAGES, babble, noise, transcript, voice

INFO = ModelInfo("listener", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))


@dataclass(frozen=True)
class Listener:
    """Keeps what it is asked, call by call; in the language of a clip that is not told one it follows ``languages``."""

    info: ModelInfo = INFO
    languages: list[str] = field(default_factory=list)
    calls: list[list[DecodingRequest]] = field(default_factory=list)

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        self.calls.append(list(clips))
        return [transcript(clip, None if clip.language else self.languages.pop(0)) for clip in clips]


@pytest.mark.medium
def test_most_of_the_first_windows_decide_the_language() -> None:
    listener = Listener(languages=["it", "en", "it"])
    recording = transcribe_recording(listener, voice(100.0), DecodingOptions())
    assert [[clip.language for clip in call] for call in listener.calls] == [[None] * 3, ["it"], ["it"]]
    assert recording.language == "it"
    assert sum(map(int, recording.text.split())) == pytest.approx(100, abs=4)


def sides(left: np.ndarray, right: np.ndarray) -> bytes:
    """A stereo WAV file."""
    channels = np.zeros((max(len(left), len(right)), 2), np.float32)
    channels[: len(left), 0], channels[: len(right), 1] = left, right
    return wav16(channels, channels=2)


@pytest.mark.medium
def test_each_channel_is_heard_and_one_language_is_found_for_all() -> None:
    listener = Listener(languages=["it", "en", "it"])
    call = sides(babble(40.0), np.concatenate([np.zeros(SAMPLE_RATE * 10, np.float32), babble(4.0)]))
    recording = transcribe_recording(listener, call, DecodingOptions(timestamps=True), choice=SoundChoice(channel=EACH))
    assert [[clip.language for clip in call] for call in listener.calls] == [[None] * 3, ["it"]]
    assert [segment.channel for segment in recording.segments] == [0, 1, 0]
    assert sorted(segment.start_s for segment in recording.segments) == [one.start_s for one in recording.segments]
    assert recording.sound is not None and recording.sound.channels == 2


@pytest.mark.medium
def test_the_chosen_channel_alone_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(sides(babble(20.0), babble(4.0)))
    for choice, seconds in ((SoundChoice(channel="left"), 20), (SoundChoice(channel="1"), 4)):
        found = transcribe(Listener(), path, "en", choice=choice)
        assert int(found.text) == pytest.approx(seconds, abs=1)
        assert found.warnings == ()


@pytest.mark.medium
def test_each_window_may_have_its_own_language() -> None:
    listener = Listener(languages=["it", "en", "it", "en"])
    transcribe_recording(listener, voice(100.0), DecodingOptions(language_per_window=True))
    assert [clip.language for call in listener.calls for clip in call] == [None] * 4


@pytest.mark.medium
def test_what_is_asked_reaches_every_window() -> None:
    options = DecodingOptions("it", False, "translate", "Digium", 0.4, True, True)
    listener = Listener()
    recording = transcribe_recording(listener, voice(100.0), options)
    for clip in listener.calls[0]:
        assert options == DecodingOptions(
            clip.language, False, clip.task, clip.prompt, clip.temperature, clip.timestamps, clip.words
        )
    assert recording.language == "en"  # what was translated


@pytest.mark.slow
def test_real_italian_is_recognised_written_down_and_translated() -> None:
    engine = load_engine(ServeConfig(model="builtin:base", cpus_each=1))
    good, _ = utterances("it", fetch("it", cache_root()))
    said = [clip for clip in good if 8 <= len(clip.text.split()) <= 16][:2]
    pause = np.zeros(SAMPLE_RATE * 3, np.float32)  # long enough for a window each
    parts = [part for clip in said for part in (decode(str(clip.audio), container="g722"), pause)]
    audio = encode_flac(np.concatenate(parts))
    italian = transcribe_recording(engine, audio, DecodingOptions())
    assert italian.language == "it"
    assert score([" ".join(clip.text for clip in said)], [italian.text], "normalised", "it").rate < 0.6
    english = transcribe_recording(engine, audio, DecodingOptions(task="translate"))
    assert english.language == "en"
    assert {"the", "to", "you", "your", "is"} & set(english.text.lower().split()), english.text


@pytest.mark.medium
@pytest.mark.parametrize(
    "audio", [noise(8.0), encode_flac(np.zeros(SAMPLE_RATE * 8, np.float32))], ids=["noise", "silence"]
)
def test_nothing_spoken_is_an_empty_recording(audio: bytes) -> None:
    listener = Listener()
    recording = transcribe_recording(listener, audio, DecodingOptions())
    assert (recording.text, recording.segments, recording.words, listener.calls) == ("", (), (), [])
    assert recording.duration_s == pytest.approx(8.0)


@pytest.mark.medium
def test_silence_around_speech_is_not_decoded_but_its_time_counts() -> None:
    silence = np.zeros(SAMPLE_RATE * 20, np.float32)
    listener = Listener()
    recording = transcribe_recording(
        listener, encode_flac(np.concatenate([silence, babble(3.0), silence])), DecodingOptions("en")
    )
    assert [clip.features.shape[1] for call in listener.calls for clip in call] == [pytest.approx(300, abs=120)]
    assert recording.segments[0].start_s == pytest.approx(20.0, abs=0.6)
    assert recording.duration_s == pytest.approx(43.0)


def test_a_language_the_model_does_not_know_is_a_persons_mistake(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="English only"):
        transcribe(engine, tmp_path / "any.wav", "Italian")


def test_a_model_that_cannot_translate_says_so(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot translate"):
        transcribe_recording(engine, tmp_path / "any.wav", DecodingOptions("en", task="translate"))


def test_a_file_that_is_no_audio_is_named(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "notes.wav"
    file.write_text("these are words, not sounds")
    with pytest.raises(DataError, match=r"not_audio: .*notes\.wav"):
        transcribe(engine, file)


def test_limits_hold(engine: Engine, english_clips: list[Utterance]) -> None:
    with pytest.raises(DataError, match="too_long"):
        transcribe(engine, Path(str(english_clips[0].audio)), limits=AudioLimits(max_audio_s=0.5))
