from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.decode import SAMPLE_RATE
from asr.inference.recording import Joiner, RecordedSegment, Recording, RecordingPart, Window, join
from asr.sound import EACH, SoundReport
from asr.transcript import Segment, Transcript, Word

HEARD = Transcript("Ciao.", (1, 2), "it", (Segment(0.5, 1.5, " Ciao.", (1, 2)),), (Word(0.5, 1.5, " Ciao.", 0.9),))


def window(start_s: float, end_s: float) -> Window:
    return Window(round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE))


def said(text: str, language: str | None = "it", tokens: int = 1) -> Transcript:
    return Transcript(text, tuple(range(tokens)), language)


def texts(*transcripts: Transcript) -> Recording:
    return join([window(10 * n, 10 * n + 5) for n in range(len(transcripts))], transcripts, 100.0)


def test_times_are_those_of_the_recording() -> None:
    heard = join([window(2, 7), window(7100.25, 7110)], [HEARD, HEARD], 7200.0)
    assert [(s.start_s, s.end_s) for s in heard.segments] == [(2.5, 3.5), (7100.75, 7101.75)]
    assert [(w.start_s, w.end_s, w.text) for w in heard.words] == [(2.5, 3.5, " Ciao."), (7100.75, 7101.75, " Ciao.")]
    assert [s.window_start_s for s in heard.segments] == [2, 7100.25]
    assert heard.duration_s == 7200.0


def test_segments_are_numbered_and_carry_their_figures() -> None:
    doubtful = replace(HEARD, avg_logprob=-0.7, no_speech_prob=0.2, compression_ratio=1.3, temperature=0.4)
    first, second = join([window(0, 5), window(8, 12)], [HEARD, doubtful], 12.0).segments
    assert (first.id, second.id) == (0, 1)
    assert (first.avg_logprob, first.temperature) == (0.0, 0.0)
    assert (second.avg_logprob, second.no_speech_prob) == (-0.7, 0.2)
    assert (second.compression_ratio, second.temperature) == (1.3, 0.4)
    assert second.tokens == (1, 2)


@pytest.mark.parametrize(("before", "after", "text"), [("it", "it", "a b"), ("ja", "zh", "ab"), ("ja", "en", "a b")])
def test_a_space_stands_between_windows_unless_neither_language_has_them(before: str, after: str, text: str) -> None:
    assert texts(said(" a ", before), said("", after), said("b", after)).text == text


def test_nothing_said_is_no_segment() -> None:
    empty = Transcript("", (), "en", (Segment(0.0, 5.0, " ", ()),))
    heard = texts(empty, said("  ", "en", 5), said("sì"))
    assert [segment.text for segment in heard.segments] == ["sì"]
    assert heard.language == "it"
    assert texts() == texts(empty) == Recording(100.0, None, (), ())
    assert texts().text == ""


def test_an_empty_segment_among_others_is_left_out() -> None:
    both = replace(HEARD, segments=(Segment(0.0, 1.0, " ", ()), Segment(1.0, 2.0, " Ciao.", (1, 2))))
    (segment,) = texts(both).segments
    assert (segment.id, segment.text) == (0, "Ciao.")


def test_text_without_segments_is_one_from_end_to_end() -> None:
    (segment,) = join([window(3, 9)], [said("Ciao.", tokens=4)], 20.0).segments
    assert (segment.start_s, segment.end_s, segment.tokens) == (3, 9, (0, 1, 2, 3))


def test_the_language_is_that_of_most_tokens() -> None:
    assert texts(said("a", "it", 3), said("b", "en", 2), said("c", "en", 2)).language == "en"


def test_a_language_given_is_named_where_no_window_tells_one() -> None:
    spans = [window(0, 5)]
    assert join(spans, [said("", None)], 5.0, "it").language == "it"
    assert join(spans, [said("a", None)], 5.0, "en").language == "en"
    assert join(spans, [said("a", "fr")], 5.0, "en").language == "fr"


def test_windows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="after one until"):
        join([window(0, 5), window(4, 9)], [HEARD, HEARD], 9.0)
    with pytest.raises(ValueError, match="shorter"):
        join([window(0, 5)], [], 5.0)


def test_what_arrives_window_by_window_is_the_recording() -> None:
    spans = [window(0, 5), window(6, 9), window(9, 12)]
    transcripts = [HEARD, said(""), said("Tutto bene?", tokens=3)]
    joiner = Joiner()
    parts = [joiner.add(span, transcript) for span, transcript in zip(spans, transcripts, strict=True)]
    whole = joiner.recording(12.0)
    assert whole == join(spans, transcripts, 12.0)
    assert [part.delta for part in parts] == ["Ciao.", "", " Tutto bene?"]
    assert "".join(part.delta for part in parts) == whole.text
    assert sum((part.segments for part in parts), ()) == whole.segments
    assert sum((part.words for part in parts), ()) == whole.words


def channel(number: int, start_s: float, end_s: float) -> Window:
    return replace(window(start_s, end_s), channel=number)


def spoken(*segments: tuple[float, float, str]) -> Transcript:
    """A transcript of segments with one word each, in seconds from the window's beginning."""
    return Transcript(
        " ".join(text for *_, text in segments),
        (1,) * len(segments),
        "it",
        tuple(Segment(start, end, text, (1,)) for start, end, text in segments),
        tuple(Word(start, end, f" {text}", 0.9) for start, end, text in segments),
    )


def test_two_channels_are_one_conversation_in_order_of_time() -> None:
    asking, answering = spoken((0, 2, "Pronto?"), (5, 7, "Chi parla?")), spoken((0, 1, "Ciao."), (5, 6, "Sono io."))
    heard = join([channel(0, 0, 9), channel(1, 3, 10)], [asking, answering], 10.0)
    assert heard.text == "Pronto? Ciao. Chi parla? Sono io."
    assert [(one.id, one.channel, one.start_s) for one in heard.segments] == [
        (0, 0, 0),
        (1, 1, 3),
        (2, 0, 5),
        (3, 1, 8),
    ]
    assert [(one.channel, one.text) for one in heard.words] == [(one.channel, f" {one.text}") for one in heard.segments]


def test_the_same_words_in_both_channels_are_said_twice() -> None:
    heard = join([channel(0, 0, 5), channel(1, 0, 5)], [HEARD, HEARD], 5.0)
    assert [(one.channel, one.text) for one in heard.segments] == [(0, "Ciao."), (1, "Ciao.")]


def test_windows_of_a_channel_do_not_overlap_and_no_channel_is_behind_another() -> None:
    for spans in ([channel(0, 0, 5), channel(0, 4, 9)], [channel(0, 3, 5), channel(1, 2, 9)]):
        with pytest.raises(ValueError, match="after one until"):
            join(spans, [HEARD, HEARD], 9.0)


def test_what_each_channel_says_counts_as_heard() -> None:
    assert Recording(10.0, None, (), ()).decoded_s == 10.0
    assert Recording(10.0, None, (), (), SoundReport(160_000, channels=2)).decoded_s == 10.0
    assert Recording(10.0, None, (), (), SoundReport(160_000, channel=EACH, channels=2)).decoded_s == 20.0


@pytest.mark.medium
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(0.0, 3.0),
            st.lists(st.floats(0.0, 8.0), max_size=4).map(sorted),
        ),
        max_size=8,
    )
)
def test_parts_of_any_channels_are_in_order_of_time_and_make_the_whole(
    drawn: list[tuple[int, float, list[float]]],
) -> None:
    spans, transcripts, ends = [], [], dict[int, float]()
    start_s = 0.0
    for number, gap_s, starts in drawn:
        start_s = max(start_s + gap_s, ends.get(number, 0.0))
        ends[number] = start_s + 10.0
        spans.append(channel(number, start_s, ends[number]))
        transcripts.append(spoken(*((start, start + 0.5, f"{number}-{start}") for start in starts)))
    joiner = Joiner()
    parts = [joiner.add(span, transcript) for span, transcript in zip(spans, transcripts, strict=True)]
    parts.append(joiner.rest(100.0))
    whole = joiner.recording(100.0)
    assert whole == join(spans, transcripts, 100.0)
    assert "".join(part.delta for part in parts) == whole.text
    assert len(whole.segments) == len(whole.words) == sum(len(starts) for *_, starts in drawn)
    for items in (whole.segments, whole.words):
        assert [item.start_s for item in items] == sorted(item.start_s for item in items)
    assert [segment.id for segment in whole.segments] == list(range(len(whole.segments)))
    assert [part.until_s for part in parts] == sorted(part.until_s for part in parts)
    assert all(_starts(part) == [] or max(_starts(part)) <= part.until_s for part in parts)


def _starts(part: RecordingPart) -> list[float]:
    segments: tuple[RecordedSegment, ...] = part.segments
    return [segment.start_s for segment in segments]


times = st.floats(-1.0, 40.0)


@given(st.lists(st.lists(st.tuples(times, times), min_size=1, max_size=4), max_size=4))
def test_times_never_go_back_nor_leave_their_window(spoken: list[list[tuple[float, float]]]) -> None:
    spans = [window(20 * n, 20 * n + 15) for n in range(len(spoken))]
    transcripts = [
        Transcript(
            "a",
            (1,),
            "it",
            tuple(Segment(start, end, " a", (1,)) for start, end in each),
            tuple(Word(start, end, " a", 1.0) for start, end in each),
        )
        for each in spoken
    ]
    heard = join(spans, transcripts, 100.0)
    for items in (heard.segments, heard.words):
        edges = [edge for item in items for edge in (item.start_s, item.end_s)]
        assert edges == sorted(edges)
        owners = [span for span, each in zip(spans, spoken, strict=True) for _ in each]
        for item, span in zip(items, owners, strict=True):
            assert span.start_s <= item.start_s <= item.end_s <= span.end_s
