from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from asr.clip import Spoken, Transcript, Word
from asr.recording import Window
from serve.answers import Answer
from serve.parameters import Format, Parameters, read_parameters
from serve.request import Asked

HEARD = {
    Window(16_000, 80_000): Transcript(
        "uno due",
        (1, 2),
        "it",
        (Spoken(0.0, 2.0, "uno", (1,)), Spoken(2.0, 4.0, "due", (2,))),
        (Word(0.5, 1.0, " uno", 0.9), Word(2.5, 3.0, " due", 0.9)),
    ),
    Window(96_000, 112_000): Transcript("", (), "it"),
    Window(160_000, 208_000): Transcript("<tre>", (3,), "it", (Spoken(0.0, 3.0, "<tre>", (3,)),), ()),
}


def parameters(response_format: str, *granularities: str) -> Parameters:
    pairs = [("timestamp_granularities[]", each) for each in granularities]
    return read_parameters([("model", "m"), ("response_format", response_format), *pairs])


def answered(asked: Parameters, task: Any = "transcribe") -> tuple[Answer, list[dict[str, Any]]]:
    """An answer to which all windows were added, and its deltas."""
    answer = Answer(asked, Asked(task=task), 14.0)
    deltas = [answer.delta(window, answer.add(window, transcript)) for window, transcript in HEARD.items()]
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
    answer = Answer(parameters(response_format), Asked(), 3.0)
    rest = answer.rest()
    assert (rest and rest["delta"]) == head
    assert answer.done()["text"] == (head or "")
