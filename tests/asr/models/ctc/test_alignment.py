"""When given tokens are spoken, and words made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.models.ctc.alignment import TokenSpans, align_tokens, given_word_times, positions_needed, word_times
from asr.transcript import Word

BLANK = 4


def emissions(symbols: Sequence[int], blank: int = BLANK, surety: float = 0.9) -> NDArray[np.float32]:
    """Emissions that name these symbols, one a position, out of five."""
    rows = np.full((len(symbols), 5), (1 - surety) / 4)
    rows[np.arange(len(symbols)), list(symbols)] = surety
    return np.log(rows).astype(np.float32)


def test_spans_are_the_positions_tokens_are_read_at() -> None:
    heard = [4, 4, 0, 0, 4, 1, 4, 4, 1, 2, 2, 2, 4]
    spans = align_tokens(emissions(heard), [0, 1, 1, 2], BLANK)
    assert spans.starts_L.tolist() == [2, 5, 8, 9]
    assert spans.ends_L.tolist() == [4, 6, 9, 12]
    assert spans.probabilities_L == pytest.approx([0.9] * 4)


def test_the_blank_may_be_any_symbol() -> None:
    for blank in range(5):
        token = (blank + 1) % 5
        spans = align_tokens(emissions([blank, token, token, blank, token], blank), [token, token], blank)
        assert (spans.starts_L.tolist(), spans.ends_L.tolist()) == ([1, 4], [3, 5])


def test_the_same_token_twice_has_a_blank_between() -> None:
    spans = align_tokens(emissions([1, 1, 1]), [1, 1], BLANK)
    assert (spans.starts_L.tolist(), spans.ends_L.tolist()) == ([0, 2], [1, 3])
    assert positions_needed([1, 1]) == 3
    assert positions_needed([]) == 0
    assert positions_needed([1, 2, 2, 2, 1]) == 7


def test_a_token_that_is_misheard_has_its_place_and_a_low_probability() -> None:
    spans = align_tokens(emissions([4, 0, 4, 3, 4, 2, 4]), [0, 1, 2], BLANK)
    assert spans.starts_L[1] in (2, 3, 4)
    assert spans.probabilities_L[0] == pytest.approx(0.9)
    assert spans.probabilities_L[1] == pytest.approx(0.025)


def test_without_tokens_there_are_no_spans() -> None:
    for positions in (0, 3):
        spans = align_tokens(emissions([4] * positions), [], BLANK)
        assert len(spans.starts_L) == len(spans.ends_L) == len(spans.probabilities_L) == 0


def test_more_tokens_than_positions_are_an_error() -> None:
    assert align_tokens(emissions([1, 4, 1]), [1, 1], BLANK).ends_L.tolist() == [1, 3]
    with pytest.raises(ValueError, match="2 tokens need 3 positions, and there are 2"):
        align_tokens(emissions([1, 1]), [1, 1], BLANK)
    with pytest.raises(ValueError, match="1 tokens need 1 positions, and there are 0"):
        align_tokens(emissions([]), [1], BLANK)


def test_what_is_no_symbol_is_an_error() -> None:
    for token in (BLANK, 5, -1):
        with pytest.raises(ValueError, match="a token is the blank"):
            align_tokens(emissions([1, 1, 1]), [token], BLANK)


def told(symbols: str | Sequence[str], starts: Sequence[int], language: str = "en", delimiter: str = "|") -> list[Word]:
    """Words of symbols that are read at one position each, 50 a second, out of 200."""
    starts_L = np.array(starts)
    spans = TokenSpans(starts_L, starts_L + 1, np.linspace(0.1, 1.0, len(starts)))
    return list(word_times(list(symbols), spans, 0.02, 200, language, delimiter))


def texts(symbols: str | Sequence[str], language: str = "en", delimiter: str = "|") -> list[str]:
    return [word.text for word in told(symbols, range(len(symbols)), language, delimiter)]


def test_words_end_at_the_delimiter() -> None:
    words = told("hi|you", [50, 52, 54, 56, 58, 60])
    # 20 ms before the first token of each, 40 ms behind the last.
    assert words == [Word(0.98, 1.1, " hi", 0), Word(1.1, 1.26, " you", 0)]
    assert [word.probability for word in words] == pytest.approx([0.19, 0.82])


def test_words_never_overlap() -> None:
    for starts in ([1, 2, 3], [1, 3, 4], [1, 3, 5], [1, 3, 6]):
        first, second = told("a|b", starts)
        assert first.end_s <= second.start_s


def test_a_pause_is_nobodys() -> None:
    first, second = told("a|b", [0, 60, 199])
    assert (first.start_s, first.end_s) == (0.0, 0.06)
    assert (second.start_s, second.end_s) == (3.96, 4.0)


@pytest.mark.parametrize("peak", [0.0, 0.5])
def test_words_are_within_50_ms_of_the_truth_where_a_symbol_peaks_at_its_beginning_or_middle(peak: float) -> None:
    """Symbols of 60 to 80 ms, words with and without pauses."""
    generator = np.random.default_rng(5)
    truth, starts, symbols, now_s = [], [], "", 0.1
    for _ in range(12):
        begin_s = now_s
        for _ in range(generator.integers(1, 6)):
            length_s = generator.uniform(0.06, 0.08)
            symbols, starts = symbols + "a", [*starts, int((now_s + peak * length_s) / 0.02)]
            now_s += length_s
        truth.append((begin_s, now_s))
        symbols, starts = symbols + "|", [*starts, starts[-1] + 1]
        now_s += generator.choice([0.0, 0.0, 0.3])
    for word, (start_s, end_s) in zip(told(symbols, starts), truth, strict=True):
        assert abs(word.start_s - start_s) < 0.05
        assert abs(word.end_s - end_s) < 0.05


def test_delimiters_alone_make_no_words() -> None:
    assert texts("|") == []
    assert texts("||a||b|") == [" a", " b"]


def test_subwords_begin_words_with_their_mark() -> None:
    assert texts(["▁Hel", "lo", ",", "▁", "wor", "ld", "!"]) == [" Hello,", " world!"]
    assert texts(["un", "▁deux"], "fr") == [" un", " deux"]


def test_punctuation_is_in_a_word_but_not_in_its_time() -> None:
    words = told(["▁Hi", ",", "▁–", "▁you", "?", "▁–"], [10, 30, 50, 70, 90, 95])
    assert [word.text for word in words] == [" Hi,", " – you? –"]
    assert (words[0].end_s, words[1].start_s, words[1].end_s) == (0.26, 1.38, 1.46)


def test_languages_without_spaces_are_split_by_character() -> None:
    assert texts("你好。再见", "zh") == ["你", "好。", "再", "见"]
    assert texts("「はい」と", "ja") == ["「は", "い」", "と"]
    assert texts(["▁你", "好吗", "？"], "zh") == ["你", "好吗？"]


def test_marks_and_latin_words_stay_whole() -> None:
    assert texts("ที่นี่", "th") == ["ที่", "นี่"]
    assert texts("用iOS|18吧", "zh") == ["用", "iOS", " 18", "吧"]


def test_the_words_joined_are_the_transcript() -> None:
    for symbols, language in (("it's|so.|(yes)", "en"), ("はい、。そう", "ja"), ("用iOS|18吧", "zh")):
        assert "".join(texts(symbols, language)).strip() == symbols.replace("|", " ")


def test_a_language_that_is_not_known_has_spaces() -> None:
    spans = TokenSpans(np.array([1, 2, 3]), np.array([2, 3, 4]), np.ones(3))
    assert [word.text for word in word_times(list("a|b"), spans, 0.02, 9, None, "|")] == [" a", " b"]


def given(text: str, spelled: dict[str, str] | None = None) -> tuple[Word, ...]:
    """The times of a text's words, whose letters are each heard at every other position, and delimiters as well."""
    words = [(word, list((spelled or {}).get(word, word))) for word in text.split()]
    count = len("|".join("".join(symbols) for _, symbols in words if symbols))
    spans = TokenSpans(np.arange(count) * 2, np.arange(count) * 2 + 1, np.full(count, 0.5))
    return given_word_times(words, 1, spans, 0.02, 2 * count + 20)


def test_given_words_are_written_as_they_are_given() -> None:
    words = given("Login errato, l'altro.", {"Login": "login", "errato,": "errato", "l'altro.": "l'altro"})
    assert [word.text for word in words] == [" Login", " errato,", " l'altro."]
    assert [word.start_s for word in words] == [0.0, 0.22, 0.5]  # 5 and a delimiter, 6 and a delimiter
    assert all(word.probability == 0.5 for word in words)
    ends = [time for word in words for time in (word.start_s, word.end_s)]
    assert ends == sorted(ends)


def test_given_punctuation_goes_with_a_word_but_not_with_its_time() -> None:
    spelled = {"«": "", "–": "", "...": ""}
    assert [word.text for word in given("« si » – no ...", spelled | {"»": ""})] == [" « si » –", " no ..."]
    assert [word.text for word in given("dice « no", spelled)] == [" dice", " « no"]
    assert [word.text for word in given("... no", spelled)] == [" ... no"]
    plain, marked = given("si no"), given("si, no")
    assert plain[0] == Word(marked[0].start_s, marked[0].end_s, " si", 0.5)
    assert given("...", spelled) == ()
