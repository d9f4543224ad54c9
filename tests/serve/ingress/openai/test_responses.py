from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.inference.known_model import KnownModel
from asr.inference.pipeline import DecodingOptions
from asr.inference.recording import Window
from asr.models.abilities import Refusal
from asr.sound import EACH, SoundReport
from asr.transcript import Segment, Transcript, Word
from serve.ingress.openai import schemas
from serve.ingress.openai.parameters import Format, Parameters, read_parameters
from serve.ingress.openai.responses import HEADER, MAX_HEADER_LENGTH, Answer, as_header, listed

HEARD = {
    Window(16_000, 80_000): Transcript(
        "uno due",
        (1, 2),
        "it",
        (Segment(0.0, 2.0, "uno", (1,)), Segment(2.0, 4.0, "due", (2,))),
        (Word(0.5, 1.0, " uno", 0.9), Word(2.5, 3.0, " due", 0.9)),
    ),
    Window(96_000, 112_000): Transcript("", (), "it"),
    Window(160_000, 208_000): Transcript("<tre>", (3,), "it", (Segment(0.0, 3.0, "<tre>", (3,)),), ()),
}

WHOLE = SoundReport(224_000)
DAMAGED = SoundReport(
    224_000, 1, 2, "0", 2, 0.03, ("1 packet could not be decoded: silence from 6.34 to 6.37 s", "track 1 was taken")
)
EACH_OF_TWO = SoundReport(224_000, channel=EACH, channels=2)


def parameters(response_format: str, *granularities: str) -> Parameters:
    pairs = [("timestamp_granularities[]", each) for each in granularities]
    return read_parameters([("model", "m"), ("response_format", response_format), *pairs])


def answered(asked: Parameters, task: Any = "transcribe") -> tuple[Answer, list[dict[str, Any]]]:
    """An answer to which all windows were added, and its deltas."""
    answer = Answer(asked, DecodingOptions(task=task), 14.0, WHOLE)
    deltas = [answer.delta(answer.add(window, transcript)) for window, transcript in HEARD.items()]
    return answer, deltas


@pytest.mark.parametrize("response_format", get_args(Format))
def test_the_deltas_one_after_the_other_are_the_text_of_the_end(response_format: str) -> None:
    answer, deltas = answered(parameters(response_format))
    done = answer.done()
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert answer.rest() is None
    assert [(event["end"], event["duration"]) for event in deltas] == [(5.0, 14.0), (7.0, 14.0), (13.0, 14.0)]
    whole = bytes(answer.response().body).decode()
    in_whole = json.loads(whole)["text"] if "json" in response_format else whole
    assert in_whole.strip() == done["text"].strip()


def test_subtitles_grow_cue_by_cue() -> None:
    _, deltas = answered(parameters("srt"))
    assert deltas[0]["delta"].startswith("1\n00:00:01,000 --> 00:00:03,000\nuno\n\n2\n")
    assert deltas[2]["delta"] == "3\n00:00:10,000 --> 00:00:13,000\n<tre>\n\n"
    _, deltas = answered(parameters("vtt"))
    assert deltas[0]["delta"].startswith("WEBVTT\n\n00:00:01.000")
    assert deltas[2]["delta"] == "00:00:10.000 --> 00:00:13.000\n&lt;tre&gt;\n\n"


def test_verbose_deltas_hold_what_their_window_added() -> None:
    answer, deltas = answered(parameters("verbose_json", "word", "segment"))
    assert [[segment["id"] for segment in event["segments"]] for event in deltas] == [[0, 1], [], [2]]
    assert [[word["start"] for word in event["words"]] for event in deltas] == [[1.5, 3.5], [], []]
    done = answer.done()
    assert done["segments"] == deltas[0]["segments"] + deltas[2]["segments"]
    assert (done["language"], done["duration"]) == ("italian", 14.0)


def test_what_was_not_asked_for_is_not_told() -> None:
    for asked in (parameters("json"), parameters("srt"), parameters("verbose_json", "word")):
        answer, deltas = answered(asked)
        assert not any("segments" in event for event in (*deltas, answer.done()))


def test_the_cost_is_counted_in_tokens_of_audio_and_of_text() -> None:
    answer, _ = answered(parameters("json"))
    usage = answer.done()["usage"]
    assert (usage["type"], usage["input_tokens"], usage["output_tokens"]) == ("tokens", 700, 3)
    assert usage["total_tokens"] == 703


def test_a_translation_is_english() -> None:
    answer, _ = answered(parameters("verbose_json"), "translate")
    assert answer.done()["language"] == "english"
    assert answer.recording.language == "en"


@pytest.mark.parametrize(("response_format", "head"), [("json", None), ("srt", None), ("vtt", "WEBVTT\n\n")])
def test_nothing_spoken_leaves_the_head_of_the_document(response_format: str, head: str | None) -> None:
    answer = Answer(parameters(response_format), DecodingOptions(), 3.0, WHOLE)
    rest = answer.rest()
    assert (rest and rest["delta"]) == head
    assert answer.done()["text"] == (head or "")


@pytest.mark.parametrize("response_format", get_args(Format))
def test_what_is_missing_from_the_sound_is_told_with_every_answer(response_format: str) -> None:
    whole = Answer(parameters(response_format), DecodingOptions(), 14.0, WHOLE)
    assert whole.headers == {} and HEADER not in whole.response().headers
    answer = Answer(parameters(response_format), DecodingOptions(), 14.0, DAMAGED)
    expected = "1 packet could not be decoded: silence from 6.34 to 6.37 s; track 1 was taken"
    assert answer.response().headers[HEADER] == answer.headers[HEADER] == expected
    bodies = [answer.done()] + ([json.loads(bytes(answer.response().body))] if "json" in response_format else [])
    for body in bodies:
        if response_format == "verbose_json":
            assert body["warnings"] == list(DAMAGED.warnings)
            assert body["audio"] == {"track": 1, "tracks": 2, "channel": "0", "channels": 2, "damaged_s": 0.03}
        else:
            assert not {"warnings", "audio"} & set(body)


@given(st.lists(st.text(), max_size=20))
def test_warnings_never_break_a_header(warnings: list[str]) -> None:
    value = as_header(warnings)
    assert value.isascii() and (value.isprintable() or not value) and len(value) <= MAX_HEADER_LENGTH


def test_a_header_of_many_warnings_is_cut_and_says_so() -> None:
    value = as_header(["not decodable: silence; from 1 to 2 s"] * 200)
    assert len(value) == MAX_HEADER_LENGTH and value.endswith("; and more")
    assert as_header(["silence; here", "a\r\nSet-Cookie: \xfc"]) == "silence, here; a??Set-Cookie: ?"


SIDE_BY_SIDE = {
    Window(0, 128_000, 0): Transcript(
        "one three", (1, 3), "en", (Segment(0.0, 2.0, "one", (1,)), Segment(5.0, 8.0, "three", (3,)))
    ),
    Window(48_000, 192_000, 1): Transcript(
        "two four", (2, 4), "en", (Segment(0.0, 1.0, "two", (2,)), Segment(6.0, 9.0, "four", (4,)))
    ),
    Window(160_000, 208_000, 0): Transcript("five", (5,), "en", (Segment(0.0, 3.0, "five", (5,)),)),
}


def test_a_word_that_waits_for_another_channel_comes_when_its_turn_is_there() -> None:
    words = Word(0.0, 1.0, " a", 1.0), Word(8.0, 9.0, " turn", 1.0)
    long = Transcript("a long turn", (1,), "en", (Segment(0.0, 9.0, "a long turn", (1,)),), words)
    short = Transcript("mm", (2,), "en", (Segment(0.0, 1.0, "mm", (2,)),), (Word(0.0, 1.0, " mm", 1.0),))
    both = {
        Window(0, 160_000, 0): long,
        Window(64_000, 96_000, 1): short,
        Window(192_000, 208_000, 1): Transcript("", (), "en"),
    }
    answer = Answer(parameters("verbose_json", "word"), DecodingOptions(), 14.0, EACH_OF_TWO)
    deltas = [answer.delta(answer.add(window, transcript)) for window, transcript in both.items()]
    assert [[word["word"] for word in event["words"]] for event in deltas] == [[], ["a"], ["mm", "turn"]]
    assert [word["channel"] for word in answer.done()["words"]] == [0, 1, 0]


@pytest.mark.parametrize("response_format", get_args(Format))
def test_a_stream_of_two_channels_is_in_order_of_time_and_takes_nothing_back(response_format: str) -> None:
    answer = Answer(parameters(response_format), DecodingOptions(), 14.0, EACH_OF_TWO)
    deltas = [answer.delta(answer.add(window, transcript)) for window, transcript in SIDE_BY_SIDE.items()]
    rest = answer.rest()
    assert rest is not None and answer.rest() is None
    deltas.append(rest)
    done = answer.done()
    assert "".join(event["delta"] for event in deltas) == done["text"]
    words = ["one", "two", "three", "four", "five"]
    assert [word for word in done["text"].replace(">", "> ").split() if word in words] == words
    assert [(event["end"], event["duration"]) for event in deltas] == [
        (0.0, 14.0),
        (3.0, 14.0),
        (10.0, 14.0),
        (14.0, 14.0),
    ]
    if response_format == "verbose_json":
        assert [segment for event in deltas for segment in event["segments"]] == done["segments"]
        assert [segment["channel"] for segment in done["segments"]] == [0, 1, 0, 1, 0]
    whole = bytes(answer.response().body).decode()
    assert (json.loads(whole)["text"] if "json" in response_format else whole).strip() == done["text"].strip()
    assert done["usage"]["input_tokens"] == 2 * 700


def test_a_listed_model_says_what_it_can_be_asked_where_that_is_known() -> None:
    speller = KnownModel("m", frozenset({"it"}), "it", {"prompt": Refusal("reads none", "leave it out")})
    told, untold = listed("m", 1, speller), listed("m", 1, None)
    assert told == untold | {"languages": ["it"], "cannot": ["prompt"]}
    assert [schemas.Model(**one).model_dump(exclude_unset=True) for one in (told, untold)] == [told, untold]
