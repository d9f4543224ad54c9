from __future__ import annotations

from itertools import chain

from asr.models.ctc.segments import MAX_SEGMENT_S, segments
from asr.transcript import Segment, Word


def spoken(*timed: tuple[float, float, str]) -> list[Word]:
    return [Word(start_s, end_s, f" {text}", 0.9) for start_s, end_s, text in timed]


def cut(words: list[Word]) -> tuple[Segment, ...]:
    """Each character is a token, and so is the space between words."""
    text = "".join(word.text for word in words).strip()
    return segments(words, range(len(text)), [letter.strip() for letter in text])


def speech(count: int, pause_s: float = 0.05, word_s: float = 0.45) -> list[Word]:
    step_s = word_s + pause_s
    return spoken(*((i * step_s, i * step_s + word_s, f"w{i}") for i in range(count)))


def test_a_clip_of_a_few_seconds_is_one_segment_from_its_first_word_to_its_last() -> None:
    words = spoken((0.4, 0.8, "prego"), (0.9, 1.2, "attendere"))
    assert cut(words) == (Segment(0.4, 1.2, "prego attendere", tuple(range(15))),)
    assert cut([]) == ()


def test_a_second_of_silence_parts_two() -> None:
    first, second = cut(spoken((0.4, 0.8, "prego"), (1.9, 2.2, "attendere")))
    assert (first.text, first.tokens) == ("prego", (0, 1, 2, 3, 4))
    assert (second.start_s, second.text, second.tokens) == (1.9, "attendere", tuple(range(5, 15)))


def test_no_word_or_token_is_lost_and_no_segment_is_longer_than_a_subtitle_may_stand() -> None:
    words = speech(58)
    parts = cut(words)
    assert all(part.end_s - part.start_s <= MAX_SEGMENT_S for part in parts)
    assert len(parts) < 10, "and none is shorter than it need be"
    assert " ".join(part.text for part in parts) == "".join(word.text for word in words).strip()
    assert list(chain.from_iterable(part.tokens for part in parts)) == list(range(len(" ".join(p.text for p in parts))))


def test_a_long_one_is_cut_where_the_speaker_pauses_or_a_sentence_ends() -> None:
    words = speech(16)
    paused = [*words[:7], *(Word(w.start_s + 0.4, w.end_s + 0.4, w.text, 0.9) for w in words[7:])]
    assert cut(paused)[0].text.endswith("w6")
    ended = [*words[:5], Word(words[5].start_s, words[5].end_s, " w5.", 0.9), *words[6:]]
    assert cut(ended)[0].text.endswith("w5.")


def test_characters_are_words_where_a_language_has_no_spaces() -> None:
    words = [Word(i * 0.3, i * 0.3 + 0.3, "字", 0.9) for i in range(40)]
    parts = segments(words, range(40), ["字"] * 40)
    assert "".join(part.text for part in parts) == "字" * 40
    assert [len(part.tokens) for part in parts] == [len(part.text) for part in parts]


def test_tokens_of_subwords_go_with_their_words() -> None:
    words = spoken((0.0, 0.5, "premere,"), (2.0, 2.5, "uno"))
    pieces = ["pre", "mere", "", ",", "u", "no"]
    assert [part.tokens for part in segments(words, range(6), pieces)] == [(0, 1, 2, 3), (4, 5)]
