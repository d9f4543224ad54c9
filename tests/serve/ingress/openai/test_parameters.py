from __future__ import annotations

import inspect
import time
from dataclasses import replace
from typing import get_args

import openai
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.features import LogMel
from asr.inference.model_info import ModelInfo
from asr.models.abilities import Refusal
from asr.sound import MAX_INDEX, SoundChoice
from serve.errors import ApiError
from serve.ingress.openai.parameters import MAX_PROMPT_CHARACTERS, Format, Parameters, options_of, read_parameters
from tests.serve.fakes import LANGUAGES

MODEL = ModelInfo("many", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))


def read(*pairs: tuple[str, str]) -> Parameters:
    return read_parameters([("model", "m"), *pairs])


def test_only_the_model_has_to_be_named() -> None:
    assert read() == Parameters("m")
    with pytest.raises(ApiError, match="no 'model'"):
        read_parameters([("language", "it")])


def test_everything_at_once() -> None:
    asked = read(
        ("language", " it "),
        ("prompt", " Digium, Asterisk "),
        ("temperature", "0.4"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("stream", "true"),
        ("chunking_strategy", "auto"),
    )
    both = frozenset({"word", "segment"})
    assert asked == Parameters("m", "it", "Digium, Asterisk", 0.4, "verbose_json", both, stream=True)


def test_an_empty_field_asks_for_nothing() -> None:
    names = ("language", "prompt", "temperature", "response_format", "stream", "timestamp_granularities[]")
    assert read(*((name, "") for name in (*names, "track", "channel"))) == Parameters("m")


@pytest.mark.parametrize(
    ("track", "channel", "expected"),
    [
        ("0", "auto", SoundChoice(0)),
        (" 1 ", " Left ", SoundChoice(1, "left")),
        ("", "MIX", SoundChoice(None, "mix")),
        ("", "each", SoundChoice(None, "each")),
        ("007", "01", SoundChoice(7, "1")),
        (str(MAX_INDEX), str(MAX_INDEX), SoundChoice(MAX_INDEX, str(MAX_INDEX))),
    ],
)
def test_a_file_s_sound_is_chosen(track: str, channel: str, expected: SoundChoice) -> None:
    assert read(("track", track), ("channel", channel)).sound == expected


@pytest.mark.parametrize("given", ["true", "True", "1"])
def test_the_language_of_each_window_is_detected_on_request(given: str) -> None:
    assert read(("language_per_window", given)).language_per_window
    with pytest.raises(ApiError, match="'language' is 'it'"):
        read(("language_per_window", given), ("language", "it"))


def test_a_list_may_be_repeated_with_or_without_brackets() -> None:
    for first in ("timestamp_granularities", "timestamp_granularities[]"):
        for second in ("timestamp_granularities", "timestamp_granularities[]"):
            asked = read(("response_format", "verbose_json"), (first, "word"), (second, "segment"))
            assert asked.granularities == {"word", "segment"}


@pytest.mark.parametrize("word", ["auto", "AUTO", " detect", "und", "unknown", "", " "])
def test_auto_is_no_language_but_the_wish_to_have_it_detected(word: str) -> None:
    asked = options_of(MODEL, read(("language", word), ("language_per_window", "true")), "transcribe")
    assert asked.language is None and asked.language_per_window


def test_segments_are_the_granularity_of_verbose_json_and_of_nothing_else() -> None:
    for name in get_args(Format):
        expected = {"segment"} if name == "verbose_json" else set()
        assert read(("response_format", name)).granularities == expected
        for granularity in ("word", "segment"):
            pairs = ("response_format", name), ("timestamp_granularities[]", granularity)
            if name == "verbose_json":
                assert read(*pairs).granularities == {granularity}
            else:
                with pytest.raises(ApiError, match="needs response_format=verbose_json"):
                    read(*pairs)


def test_how_the_service_is_to_cut_the_audio_is_taken_as_advice() -> None:
    settings = {"type": "server_vad", "threshold": "0.5", "prefix_padding_ms": "300", "silence_duration_ms": "200"}
    assert read(*((f"chunking_strategy[{name}]", value) for name, value in settings.items())) == Parameters("m")
    with pytest.raises(ApiError, match="did you mean 'threshold'"):
        read(("chunking_strategy[treshold]", "0.5"))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *(("temperature", value, "invalid_value") for value in ("1.01", "-0.1", "nan", "inf", "warm")),
        *(("stream", value, "invalid_value") for value in ("yes", "2")),
        ("response_format", "jsn", "invalid_value"),
        ("response_format", "diarized_json", "unsupported_value"),
        ("timestamp_granularities[]", "words", "invalid_value"),
        ("prompt", "the end<|endoftext|>", "invalid_value"),
        *(("track", value, "invalid_value") for value in ("-1", "1.0", "first", "512", "9" * 5000, "\u00b2")),
        *(("channel", value, "invalid_value") for value in ("-1", "0.5", "front", "512", "9" * 5000, "0,1")),
        ("include[]", "logprobs", "unsupported_value"),
        ("keywords[]", "Digium <|endoftext|>", "invalid_value"),
        ("keywords", "a" * 51, "invalid_value"),
        ("languages[]", "it", "unsupported_value"),
        ("known_speaker_names[]", "Ada", "unsupported_value"),
        ("known_speaker_references[]", "data:audio/wav;base64,", "unsupported_value"),
        ("chunking", "auto", "unknown_parameter"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(name: str, value: str, code: str) -> None:
    with pytest.raises(ApiError) as raised:
        read((name, value))
    error = raised.value
    assert (error.status, error.code, error.param) == (400, code, name.removesuffix("[]"))


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("langage", "it", "language"),
        ("response_format", "verbose-json", "verbose_json"),
        ("timestamp_granularities[]", "words", "word"),
        ("chanel", "left", "channel"),
        ("channel", "lefft", "left"),
    ],
)
def test_what_is_misspelt_is_met_with_the_nearest(name: str, value: str, nearest: str) -> None:
    with pytest.raises(ApiError, match=f"did you mean '{nearest}'"):
        read((name, value))


def test_who_asks_for_a_sound_that_no_file_has_is_told_what_there_can_be() -> None:
    with pytest.raises(ApiError, match="unknown channel 'front', choose one of auto, mix, left, right, each, or a n"):
        read(("channel", "front"))
    with pytest.raises(ApiError, match="'track' is a whole number from 0, not 'first': leave it out for the default"):
        read(("track", "first"))


def test_each_channel_has_times_because_they_order_what_was_said() -> None:
    assert options_of(MODEL, read(("channel", "each")), "transcribe").timestamps
    assert not options_of(MODEL, read(("channel", "left")), "transcribe").timestamps


def test_keywords_are_repeated_as_the_official_client_does_and_the_model_must_take_them() -> None:
    asked = read(("keywords[]", "Digium"), ("keywords", " Asterisk "), ("keywords[]", ""), ("keywords[]", "Digium"))
    assert asked.keywords == ("Digium", "Asterisk")
    assert options_of(MODEL, asked, "transcribe").keywords == asked.keywords
    without = replace(MODEL, refusals={"keywords": Refusal("takes no keywords", "write them into the prompt")})
    with pytest.raises(ApiError, match="'many' takes no keywords") as raised:
        options_of(without, asked, "transcribe")
    assert (raised.value.status, raised.value.code) == (400, "unsupported_model")
    with pytest.raises(ApiError, match="there are 101, and 100 are the limit"):
        read(*(("keywords[]", f"word {i}") for i in range(101)))


def test_who_asks_to_have_the_language_detected_asks_that_of_a_model_that_can() -> None:
    never = replace(
        MODEL,
        languages=frozenset({"it"}),
        language="it",
        refusals={"language detection": Refusal("detects no language", "")},
    )
    assert options_of(never, read(), "transcribe").language == "it"
    assert options_of(never, read(("language", "und")), "transcribe").language == "it"
    with pytest.raises(ApiError, match="'many' detects no language") as raised:
        options_of(never, read(("language", "auto")), "transcribe")
    assert (raised.value.status, raised.value.param) == (400, "language")
    with pytest.raises(ApiError, match="'many' detects no language"):
        options_of(never, read(("language_per_window", "true")), "transcribe")


def test_a_parameter_is_given_once() -> None:
    with pytest.raises(ApiError, match="'language' must be given once"):
        read(("language", "it"), ("language", "en"))


def test_no_parameter_of_the_official_client_is_unknown() -> None:
    parameters = inspect.signature(openai.OpenAI(api_key="any").audio.transcriptions.create).parameters
    names = [name for name in parameters if not name.startswith("extra_") and name not in ("file", "model", "timeout")]
    assert len(names) >= 12
    for name in names:
        try:
            read((name, ""))
        except ApiError as error:
            assert error.code == "unsupported_value", error.message


def test_a_prompt_of_a_megabyte_is_refused_with_the_limit() -> None:
    with pytest.raises(ApiError, match=f"has 1,000,000 characters, the limit is {MAX_PROMPT_CHARACTERS:,}") as raised:
        read(("prompt", "a b c d." * 125_000))
    assert (raised.value.status, raised.value.param) == (400, "prompt")
    assert read(("prompt", "a" * MAX_PROMPT_CHARACTERS)).prompt


HOSTILE = "\r\nX: y\x1b[2J\ud800" + "verbose" * 150_000


@pytest.mark.parametrize(
    "name",
    [
        *(HOSTILE, f"include[{HOSTILE}", f"chunking_strategy[{HOSTILE}]"),
        *("language_per_window", "temperature", "response_format", "stream", "timestamp_granularities[]"),
        *("track", "channel", "language", "keywords"),
    ],
)
def test_what_is_told_back_of_a_megabyte_is_one_short_line_and_soon(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(ApiError) as raised:
        options_of(MODEL, read((name, HOSTILE)), "transcribe")
    assert time.process_time() - begun < 0.2
    assert len(raised.value.message) < 300 and raised.value.message.isprintable()
