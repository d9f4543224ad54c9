from __future__ import annotations

import html
import itertools
import json
import re
from datetime import timedelta
from io import StringIO

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st
from openai.types.audio import Transcription, TranscriptionVerbose

from asr.inference.formats import as_json, as_srt, as_text, as_verbose_json, as_vtt
from asr.inference.recording import Recording, Window, join
from asr.sound import EACH, SoundReport
from asr.transcript import Segment, Transcript, Word

SILENCE = Recording(3.2, None, (), ())


def recording(*segments: tuple[float, float, str], hours: int = 0, language: str = "it") -> Recording:
    """One segment in each window, which begins ``hours`` in."""
    base = hours * 3600 * 16_000
    ends = [base + round(end * 16_000) for _, end, _ in segments]
    windows = [Window(start, end) for start, end in zip([base, *ends], ends, strict=False)]
    transcripts = [
        Transcript(text, (7, 8), language, (Segment(start - after, end - after, f" {text}", (7, 8)),))
        for (start, end, text), after in zip(segments, [0.0, *[end for _, end, _ in segments]], strict=False)
    ]
    return join(windows, transcripts, hours * 3600 + segments[-1][1])


@pytest.fixture
def greeting() -> Recording:
    words = (Word(0.52, 0.9, " Ciao,", 0.9), Word(0.9, 1.8004, " mondo.", 0.8), Word(1.8, 1.9, " ", 0.1))
    first = Transcript("Ciao, mondo.", (5, 6, 7), "it", (Segment(0.5, 1.9, " Ciao, mondo.", (5, 6, 7)),), words)
    second = Transcript("Tutto bene?", (8, 9), "it", avg_logprob=-0.4, no_speech_prob=0.1, temperature=0.2)
    return join([Window(16_000, 48_000), Window(160_000, 192_000)], [first, second], 12.4)


def test_text(greeting: Recording) -> None:
    assert as_text(greeting) == "Ciao, mondo. Tutto bene?\n"
    assert as_text(SILENCE) == "\n"


def test_json_is_openai_s(greeting: Recording) -> None:
    body = Transcription.model_validate_json(json.dumps(as_json(greeting)))
    assert body.text == "Ciao, mondo. Tutto bene?"
    assert body.usage.type == "duration"
    assert body.usage.seconds == 13


def test_verbose_json_is_openai_s(greeting: Recording) -> None:
    given = as_verbose_json(greeting)
    body = TranscriptionVerbose.model_validate_json(json.dumps(given))
    assert (given["task"], body.language, body.duration) == ("transcribe", "italian", 12.4)
    assert body.words is None
    first, second = body.segments
    assert (first.id, first.seek, first.start, first.end, first.tokens) == (0, 100, 1.5, 2.9, [5, 6, 7])
    assert (second.id, second.seek, second.start, second.end) == (1, 1000, 10.0, 12.0)
    assert (second.avg_logprob, second.no_speech_prob, second.temperature) == (-0.4, 0.1, 0.2)
    assert "".join(segment.text for segment in body.segments).strip() == body.text
    required = {name for name, field in type(first).model_fields.items() if field.is_required()}
    assert all(required <= set(segment) for segment in given["segments"])


def test_words_are_given_where_asked_for(greeting: Recording) -> None:
    body = TranscriptionVerbose.model_validate(as_verbose_json(greeting, granularities=["word"]))
    assert body.segments is None
    assert [(w.word, w.start, w.end) for w in body.words] == [("Ciao,", 1.52, 1.9), ("mondo.", 1.9, 2.8)]
    both = as_verbose_json(greeting, granularities=["word", "segment"])
    assert len(both["segments"]) == 2 and len(both["words"]) == 2


def test_a_translation_is_english(greeting: Recording) -> None:
    body = as_verbose_json(greeting, "translate")
    assert (body["task"], body["language"]) == ("translate", "english")


def test_languages_without_spaces_get_none() -> None:
    body = as_verbose_json(recording((0, 1, "こんにちは"), (1, 2, "世界"), language="ja"))
    assert body["text"] == "こんにちは世界"
    assert [segment["text"] for segment in body["segments"]] == ["こんにちは", "世界"]


def test_nothing_heard_is_valid_in_every_format() -> None:
    body = TranscriptionVerbose.model_validate(as_verbose_json(SILENCE, granularities=["word", "segment"]))
    assert (body.text, body.segments, body.words, body.language) == ("", [], [], "unknown")
    assert as_srt(SILENCE) == ""
    assert as_vtt(SILENCE) == "WEBVTT\n\n"
    assert len(webvtt.from_buffer(StringIO(as_vtt(SILENCE)))) == 0


def test_srt_as_it_is_written(greeting: Recording) -> None:
    first = "1\n00:00:01,500 --> 00:00:02,900\nCiao, mondo.\n\n"
    assert as_srt(greeting) == first + "2\n00:00:10,000 --> 00:00:12,000\nTutto bene?\n\n"


def test_vtt_as_it_is_written(greeting: Recording) -> None:
    first = "WEBVTT\n\n00:00:01.500 --> 00:00:02.900\nCiao, mondo.\n\n"
    assert as_vtt(greeting) == first + "00:00:10.000 --> 00:00:12.000\nTutto bene?\n\n"


@pytest.mark.parametrize(
    ("start_s", "end_s", "hours", "times"),
    [
        (0.9994, 0.9996, 0, "00:00:00,999 --> 00:00:01,000"),
        (59.9996, 61.0, 0, "00:01:00,000 --> 00:01:01,000"),
        (3599.9999, 3600.5, 99, "100:00:00,000 --> 100:00:00,500"),
        (1.0, 1.0, 0, "00:00:01,000 --> 00:00:01,001"),
    ],
)
def test_times_carry_over(start_s: float, end_s: float, hours: int, times: str) -> None:
    heard = recording((start_s, end_s, "ciao"), hours=hours)
    assert as_srt(heard).splitlines()[1] == times
    assert as_vtt(heard).splitlines()[2] == times.replace(",", ".")


@pytest.fixture
def call() -> Recording:
    """A telephone call whose two channels were heard on their own."""
    windows = [Window(0, 32_000, 0), Window(16_000, 64_000, 1)]
    transcripts = [
        Transcript(text, (1,), "en", (Segment(0.0, 1.0, text, (1,)),), (Word(0.0, 0.5, f" {text}", 0.9),))
        for text in ("Hello?", "Hi & <bye>")
    ]
    whole = join(windows, transcripts, 4.2)
    return Recording(
        whole.duration_s,
        whole.language,
        whole.segments,
        whole.words,
        SoundReport(67_200, 1, 2, EACH, 2, 0.0301, ("1 packet could not be decoded",)),
    )


def test_channels_are_told_apart_in_every_format_that_can(call: Recording) -> None:
    body = as_verbose_json(call, granularities=["word", "segment"])
    assert [(one["channel"], one["text"]) for one in body["segments"]] == [(0, " Hello?"), (1, " Hi & <bye>")]
    assert [(one["channel"], one["word"]) for one in body["words"]] == [(0, "Hello?"), (1, "Hi & <bye>")]
    assert [cue.content for cue in srt.parse(as_srt(call))] == ["channel 0: Hello?", "channel 1: Hi & <bye>"]
    cues = webvtt.from_buffer(StringIO(as_vtt(call)))
    assert [(cue.voice, html.unescape(cue.text)) for cue in cues] == [
        ("channel 0", "Hello?"),
        ("channel 1", "Hi & <bye>"),
    ]
    assert as_text(call) == "Hello? Hi & <bye>\n"


def test_what_was_taken_and_what_is_missing_stands_beside_openai_s_fields(call: Recording, greeting: Recording) -> None:
    body = as_verbose_json(call)
    assert body["audio"] == {"track": 1, "tracks": 2, "channel": "each", "channels": 2, "damaged_s": 0.03}
    assert body["warnings"] == ["1 packet could not be decoded"]
    assert TranscriptionVerbose.model_validate_json(json.dumps(body)).segments[1].text == " Hi & <bye>"
    plain = as_verbose_json(greeting, granularities=["word", "segment"])
    assert not {"audio", "warnings"} & set(plain)
    assert not any("channel" in one for one in (*plain["segments"], *plain["words"]))


def test_each_channel_that_is_heard_is_paid_for(call: Recording) -> None:
    assert as_json(call)["usage"]["seconds"] == 9  # twice 4.2


HOSTILE = [
    "two\nlines",
    "an empty\n\nline",
    "\r\n3\r\n00:00:01,000 --> 00:00:02,000\r\ninjected",
    "-->",
    "00:00:01.000 --> 00:00:02.000",
    "<b>bold</b> & <i>",
    "WEBVTT",
    "NOTE this",
    "42",
    "separated\u2028by\x0bodd\x85breaks",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_the_captions(text: str) -> None:
    heard = recording((0.0, 1.0, "prima"), (1.0, 2.0, text), (2.0, 3.0, "dopo"))
    line = " ".join(text.split())
    assert [cue.content for cue in srt.parse(as_srt(heard))] == ["prima", line.replace("-->", "->"), "dopo"]
    assert [html.unescape(cue.text) for cue in webvtt.from_buffer(StringIO(as_vtt(heard)))] == ["prima", line, "dopo"]
    for body in (as_srt(heard), as_vtt(heard)):
        assert body.count("-->") == 3
        assert body.count("\n\n") == 3 + body.startswith("WEBVTT")


spans = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.002, 5.0)), min_size=1, max_size=8)


@given(spans, st.sampled_from([0, 1, 120]))
def test_parsers_read_back_what_was_heard(gaps: list[tuple[float, float]], hours: int) -> None:
    segments, now = [], 0.0
    for gap, length in gaps:
        segments.append((now + gap, now + gap + length, f"detto {len(segments)}"))
        now += gap + length
    heard = recording(*segments, hours=hours)
    cues = list(srt.parse(as_srt(heard)))
    assert [cue.index for cue in cues] == list(range(1, len(segments) + 1))
    assert [cue.content for cue in cues] == [text for *_, text in segments]
    for cue, segment in zip(cues, heard.segments, strict=True):
        assert abs(cue.start - timedelta(seconds=segment.start_s)) <= timedelta(microseconds=501)
        assert abs(cue.end - timedelta(seconds=segment.end_s)) <= timedelta(microseconds=501)
    assert all(before.end <= after.start for before, after in itertools.pairwise(cues))
    times = re.findall(r"^(\d{2,}:\d\d:\d\d\.\d{3}) --> (\d{2,}:\d\d:\d\d\.\d{3})$", as_vtt(heard), re.M)
    assert [(cue.start, cue.end) for cue in webvtt.from_buffer(StringIO(as_vtt(heard)))] == times
