from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import av
import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.decode import AudioLimits, encode_flac
from asr.audio.features import LogMel
from asr.errors import DataError, UserError
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import (
    MAX_CHANNELS,
    DecodedAudio,
    DecodingOptions,
    check_abilities,
    joined,
    open_sound,
    prepared,
    spoken_language,
)
from asr.inference.recording import Window
from asr.inference.window_list import WindowList
from asr.models.abilities import Ability, Refusal
from asr.models.family import WHISPER, family_named
from asr.sound import EACH, SoundChoice, SoundReport, of_each
from asr.transcript import Segment, Transcript
from tests.asr.sounds import wav16
from tests.serve.fakes import babble, noise, voice

LOG_MEL = LogMel(WhisperFeatureExtractor().mel_filters)
MANY = ModelInfo("many", frozenset({"en", "it", "zh"}), None, "full", LOG_MEL)
ITALIAN = ModelInfo("italian", frozenset({"en", "it"}), "it", "short", LOG_MEL)
ENGLISH = ModelInfo(
    "english", frozenset({"en"}), "en", "full", LOG_MEL, refusals=family_named(WHISPER).refusals(frozenset({"en"}))
)


def test_the_request_names_the_language_else_the_artifact_else_nobody() -> None:
    assert spoken_language("Italian", MANY) == "it"
    assert spoken_language("it-IT", ENGLISH_AND_ITALIAN := ITALIAN) == "it"
    assert spoken_language("en", ENGLISH_AND_ITALIAN) == "en"
    assert spoken_language(None, ITALIAN) == "it"
    assert spoken_language("", MANY) is None
    assert spoken_language("ita", MANY) == "it"
    assert spoken_language("auto", MANY) is None


def test_a_language_that_is_none_is_met_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'italian'"):
        spoken_language("itallian", MANY)


def test_an_english_model_says_so() -> None:
    with pytest.raises(UserError, match="knows English only, not Italian"):
        spoken_language("it", ENGLISH)


def test_a_language_without_a_token_is_refused() -> None:
    with pytest.raises(UserError, match="no token for Cantonese"):
        spoken_language("yue", MANY)
    with pytest.raises(UserError, match=r"no token for Dhivehi .*language=si"):
        spoken_language("dv", MANY)


def test_a_model_of_a_language_that_no_whisper_knows_is_asked_in_it() -> None:
    dhivehi = ModelInfo("dhivehi", frozenset({"dv"}), "dv", "short", LOG_MEL)
    assert spoken_language("Dhivehi", dhivehi) == spoken_language(None, dhivehi) == "dv"
    with pytest.raises(UserError, match="knows Dhivehi only, not Italian"):
        spoken_language("it", dhivehi)


def test_a_model_that_detects_no_language_refuses_who_asks_for_that_and_nobody_else() -> None:
    one = replace(
        MANY,
        languages=frozenset({"it"}),
        language="it",
        refusals={"language detection": Refusal("detects no language", "name it")},
    )
    assert [spoken_language(named, one) for named in (None, "", "Italian", "und")] == ["it"] * 4
    for named in ("auto", " Detect"):
        with pytest.raises(UserError, match="'many' detects no language"):
            spoken_language(named, one)
        assert spoken_language(named, MANY) is None
    with pytest.raises(UserError, match="'many' knows Italian only, not English"):
        spoken_language("en", one)


def test_an_english_model_does_not_translate() -> None:
    translation = DecodingOptions(task="translate")
    check_abilities(translation, MANY)
    check_abilities(DecodingOptions(), ENGLISH)
    with pytest.raises(UserError, match="'english' knows English only and cannot translate"):
        check_abilities(translation, ENGLISH)


@pytest.mark.parametrize(
    ("asked", "ability"),
    [
        (DecodingOptions(prompt="Ahab"), "prompt"),
        (DecodingOptions(temperature=0.2), "temperature"),
        (DecodingOptions(timestamps=True), "segment times"),
        (DecodingOptions(words=True), "word times"),
        (DecodingOptions(keywords=("Ahab",)), "keywords"),
        (DecodingOptions(language_per_window=True), "language detection"),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_its_own_words(asked: DecodingOptions, ability: Ability) -> None:
    check_abilities(asked, MANY)
    limited = replace(MANY, refusals={ability: Refusal("was not made for that", "ask another")})
    check_abilities(DecodingOptions(), limited)
    with pytest.raises(UserError, match="'many' was not made for that"):
        check_abilities(asked, limited)


def test_speech_is_one_clip_of_its_own_length() -> None:
    sound = open_sound(voice(3.0), AudioLimits())
    assert sound.duration_s == pytest.approx(3.0)
    expected = LOG_MEL(sound.waveform)
    [(window, features)] = prepared(sound, MANY)
    assert (window, features.dtype, features.shape[0]) == (Window(0, 48_000), np.float16, 80)
    assert features.shape[1] == 302
    np.testing.assert_array_equal(features, expected)


@pytest.mark.medium
def test_long_audio_is_cut_into_windows_that_lose_nothing() -> None:
    sound = open_sound(voice(65.0), AudioLimits())
    windows, features = zip(*prepared(sound, MANY), strict=True)
    assert [window.start for window in windows] == [0, *(window.end for window in windows[:-1])]
    assert windows[-1].end == 65 * 16_000
    assert len(windows) == 3 and max(each.shape[1] for each in features) <= 3000


@pytest.mark.medium
@pytest.mark.parametrize("seconds", [3.0, 65.0])
def test_the_first_window_s_features_may_come_with_the_sound(seconds: float) -> None:
    there = list(prepared(open_sound(voice(seconds), AudioLimits(), MANY), MANY))
    later = list(prepared(open_sound(voice(seconds), AudioLimits()), MANY))
    assert [window for window, _ in there] == [window for window, _ in later] != []
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(there, later, strict=True))
    assert open_sound(noise(3.0), AudioLimits(), MANY).first is None


@pytest.mark.medium
def test_samples_are_forgotten_once_they_have_been_used() -> None:
    sound = open_sound(voice(65.0), AudioLimits())
    whole = sound.waveform.copy()
    for window, features in prepared(sound, MANY):
        np.testing.assert_array_equal(features, LOG_MEL(whole[window.start : window.end]))
        assert not sound.waveform[: window.end - 1024].any()  # but for what shares a page with the next window
        np.testing.assert_array_equal(sound.waveform[window.end :], whole[window.end :])


@pytest.mark.medium
@pytest.mark.parametrize("model", [MANY, ITALIAN])
def test_what_is_not_cut_yet_counts_as_speech(model: ModelInfo) -> None:
    quiet = np.zeros(100 * 16_000, np.float32)
    sound = open_sound(encode_flac(np.concatenate([babble(60.0), quiet, babble(3.0)])), AudioLimits(), model)
    assert isinstance(sound.windows, WindowList) and len(sound.windows.taken) == 1
    expected_s = sound.expected_s(model)
    assert 163.0 <= expected_s < 1.3 * 163.0, "the silence too"
    assert sound.cost_s(model) == sound.expected_s(model) < expected_s - 40.0, "all are cut"
    assert max(window.end_s - window.start_s for window in sound.windows) <= model.window_s
    plain = DecodedAudio(sound.waveform, list(sound.windows))
    assert plain.expected_s(model) == plain.cost_s(model) == sound.cost_s(model)


def test_features_are_computed_when_they_are_asked_for() -> None:
    def windows() -> Iterator[Window]:
        yield Window(0, 16_000)
        raise AssertionError("the second window was looked for")

    window, _ = next(prepared(DecodedAudio(np.zeros(48_000, np.float32), windows()), MANY))
    assert window == Window(0, 16_000)


def test_where_nobody_speaks_there_is_nothing_to_decode() -> None:
    assert list(open_sound(noise(3.0), AudioLimits()).windows) == []


@pytest.mark.medium
def test_of_a_stretch_alone_times_count_from_its_beginning() -> None:
    long = voice(65.0)
    whole, sound = (
        open_sound(long, AudioLimits()),
        open_sound(long, AudioLimits(max_audio_s=20.0), between_s=(10.0, 30.0)),
    )
    assert sound.duration_s == pytest.approx(20.0)
    first = sound.windows[0]
    there = slice(first.start + 160_000, first.start + 176_000)
    np.testing.assert_allclose(sound.waveform[first.start : first.start + 16_000], whole.waveform[there], atol=1e-4)
    assert open_sound(long, AudioLimits(), between_s=(60.0, None)).duration_s == pytest.approx(5.0, abs=0.1)


def test_limits_hold() -> None:
    with pytest.raises(DataError, match="too_long"):
        open_sound(noise(3.0), AudioLimits(max_audio_s=2.0))


EACH_CHANNEL = SoundChoice(channel=EACH)


def call() -> np.ndarray:
    """Two channels [samples, 2]: the first speaks for 40 s, the second for 4 s in the middle, and in the end nobody."""
    channels = np.zeros((50 * 16_000, 2), np.float32)
    channels[: 40 * 16_000, 0] = babble(40.0)
    channels[20 * 16_000 : 24 * 16_000, 1] = babble(4.0)
    return channels


@pytest.mark.medium
def test_each_channel_has_windows_of_its_own() -> None:
    sound = open_sound(wav16(call(), channels=2), AudioLimits(), choice=EACH_CHANNEL)
    assert (sound.report.channel, sound.report.channels) == (EACH, 2)
    assert (sound.duration_s, sound.decoded_s) == (50.0, 100.0)
    assert sound.silent_s == pytest.approx(100.0 - 44.0, abs=3.0)
    starts = [window.start for window in sound.windows]
    assert starts == sorted(starts) and len(starts) == 3
    for number in (0, 1):
        alone = open_sound(wav16(call(), channels=2), AudioLimits(), choice=SoundChoice(channel=str(number)))
        mine = [window for window in sound.windows if window.channel == number]
        assert [(window.start, window.end) for window in mine] == [(each.start, each.end) for each in alone.windows]
        assert all(each.channel is None for each in alone.windows)
    whole = sum(
        open_sound(wav16(call(), channels=2), AudioLimits(), choice=SoundChoice(channel=side)).cost_s(ENGLISH)
        for side in ("left", "right")
    )
    assert sound.cost_s(ENGLISH) == whole


@pytest.mark.medium
def test_windows_of_all_channels_are_prepared_from_their_own_samples_and_forgotten() -> None:
    sides = wav16(call(), channels=2)
    sound = open_sound(sides, AudioLimits(), MANY, EACH_CHANNEL)
    whole = [each.waveform.copy() for each in sound.channels]
    assert sound.first is not None
    for window, features in prepared(sound, MANY):
        assert window.channel is not None
        np.testing.assert_array_equal(features, LOG_MEL(whole[window.channel][window.start : window.end]))
        assert not sound.channels[window.channel].waveform[: window.end - 1024].any()


@pytest.mark.medium
def test_one_channel_of_a_recording_is_taken_by_its_name_or_number() -> None:
    sides = wav16(call(), channels=2)
    for name, number, seconds in (("left", "0", 40.0), ("right", "1", 4.0)):
        by_name, by_number = (
            open_sound(sides, AudioLimits(), choice=SoundChoice(channel=one)) for one in (name, number)
        )
        assert list(by_name.windows) == list(by_number.windows)
        assert by_name.duration_s - by_name.silent_s == pytest.approx(seconds, abs=1.5)


def tracks(*seconds: float) -> bytes:
    """A Matroska file with a track of speech for each, so many seconds long."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as media:
        streams = [media.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in seconds]
        for stream, length in zip(streams, seconds, strict=True):
            samples = (babble(length) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            media.mux(stream.encode(frame))
            media.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("channel", ["auto", "left", EACH])
def test_the_chosen_track_is_taken_whatever_is_asked_of_its_channels(channel: str) -> None:
    both = tracks(3.0, 5.0)
    for track, seconds in ((0, 3.0), (1, 5.0)):
        sound = open_sound(both, AudioLimits(), choice=SoundChoice(track, channel))
        assert (sound.duration_s, sound.report.track, sound.report.tracks) == (pytest.approx(seconds), track, 2)
    with pytest.raises(DataError, match="no_track"):
        open_sound(both, AudioLimits(), choice=SoundChoice(2, channel))


def test_what_was_found_in_every_channel_is_told_once() -> None:
    first = SoundReport(160_000, 1, 2, "0", 2, 0.5, ("track 1 was taken", "silence from 1.0 to 1.5 s"))
    second = SoundReport(160_000, 1, 2, "1", 2, 0.5, ("track 1 was taken", "only here"))
    warnings = ("track 1 was taken", "silence from 1.0 to 1.5 s", "only here")
    assert of_each([first, second]) == SoundReport(160_000, 1, 2, EACH, 2, 0.5, warnings)


def test_each_channel_of_one_is_that_one() -> None:
    sound = open_sound(voice(3.0), AudioLimits(), choice=EACH_CHANNEL)
    assert [window.channel for window in sound.windows] == [0]
    assert (sound.decoded_s, sound.report.decoded_channels) == (3.0, 1)


@pytest.mark.medium
def test_too_many_channels_for_each_are_refused() -> None:
    many = np.zeros((16_000, MAX_CHANNELS + 1), np.float32)
    with pytest.raises(DataError, match=f"has {MAX_CHANNELS + 1} channels.* choose one") as raised:
        open_sound(wav16(many, channels=MAX_CHANNELS + 1), AudioLimits(), choice=EACH_CHANNEL)
    assert raised.value.reason == "too_many_channels"
    most = open_sound(wav16(many[:, 1:], channels=MAX_CHANNELS), AudioLimits(), choice=EACH_CHANNEL)
    assert len(most.channels) == MAX_CHANNELS


@pytest.mark.medium
def test_the_limit_of_audio_is_for_all_channels_together() -> None:
    open_sound(wav16(call(), channels=2), AudioLimits(max_audio_s=100.0), choice=EACH_CHANNEL)
    with pytest.raises(DataError, match=r"too_long: .*2 channels of 50\.0 s, over 99 s in all: choose one"):
        open_sound(wav16(call(), channels=2), AudioLimits(max_audio_s=99.0), choice=EACH_CHANNEL)


def heard(*windows: tuple[int, str, str]) -> list[tuple[Window, Transcript]]:
    """Windows end to end, each of so many seconds, in which so much is heard in that language."""
    passages = []
    start = 0
    for seconds, language, text in windows:
        window = Window(start, start + seconds * 16_000)
        segments = (Segment(0.0, float(seconds), text, (1,)),) if text else ()
        passages.append((window, Transcript(text, (1,) * len(text), language, segments)))
        start = window.end
    return passages


def test_texts_are_joined_in_order_and_silence_adds_no_space() -> None:
    report = SoundReport(480_000, warnings=("one",))
    recording = joined(heard((10, "it", "uno"), (10, "en", ""), (10, "it", "due")), DecodingOptions(), 30.0, report)
    assert (recording.text, recording.language, recording.sound) == ("uno due", "it", report)


def test_chinese_gets_no_space_between_windows_and_its_translation_does() -> None:
    passages = heard((10, "zh", "你好"), (10, "zh", "世界"))
    assert joined(passages, DecodingOptions(), 20.0, SoundReport(0)).text == "你好世界"
    translated = joined(
        heard((10, "zh", "hello"), (10, "zh", "world")), DecodingOptions(task="translate"), 20.0, SoundReport(0)
    )
    assert (translated.text, translated.language) == ("hello world", "en")


def test_the_ingress_looks_for_no_speech_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [(window.start, window.end) for window in open_sound(voice(55.0), AudioLimits()).windows]
    monkeypatch.setattr("asr.audio.vad.voice_network", lambda: pytest.fail("here"))
    assert [(window.start, window.end) for window in open_sound(voice(55.0), AudioLimits()).windows] == expected != []
    assert list(open_sound(noise(3.0), AudioLimits()).windows) == []
