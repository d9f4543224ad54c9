"""Forced alignment: when given tokens are spoken, by the emissions of a CTC network; and the times of words.

Legend: T positions, V symbols, L tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.language import UNSPACED
from asr.models.ctc.text_rules import WORD_START
from asr.models.ctc.trellis import Corridor, Trellis
from asr.transcript import Word

MARGINS_S = (0.02, 0.04)
"""What a word or segment lasts before the first and behind the last position that its tokens are read at.

A network trained with CTC names a symbol at one position or two, at the beginning of its sound or in the middle, and
blank else. With sounds of 60 to 80 ms both are within 50 ms of the truth then. Words never overlap: in running speech
they touch, in a pause nobody speaks. Both torchaudio's tutorial and transformers' word offsets leave this out, and
their words end early; ctc-segmentation takes the middle between symbols, up to half a second, and puts words into
pauses.
"""


@dataclass(frozen=True)
class TokenSpans:
    """Positions [``starts_L``, ``ends_L``) that each token is read at, and its mean probability over these."""

    starts_L: NDArray[np.int64]
    ends_L: NDArray[np.int64]
    probabilities_L: NDArray[np.float64]


def positions_needed(tokens: Sequence[int]) -> int:
    """Return how many positions these tokens take at least: one each, and a blank between two of the same."""
    return len(tokens) + sum(first == second for first, second in pairwise(tokens))


def align_tokens(logprobs_TV: NDArray[np.float32], tokens: Sequence[int], blank: int) -> TokenSpans:
    """Return the spans of tokens on the most probable path through a clip's emissions, natural logarithms [T, V].

    Without tokens there are no spans. Raises ValueError where there are fewer positions than ``positions_needed``, a
    token is the blank or none of the V symbols, or every path has the probability 0.
    """
    if (needed := positions_needed(tokens)) > len(logprobs_TV):
        raise ValueError(f"{len(tokens)} tokens need {needed} positions, and there are {len(logprobs_TV)}")
    if not all(0 <= token < logprobs_TV.shape[1] and token != blank for token in tokens):
        raise ValueError(f"a token is the blank ({blank}) or none of {logprobs_TV.shape[1]} symbols: {tokens!r:.80}")
    columns_L = np.asarray(tokens, dtype=np.int64)
    if not len(columns_L):
        return TokenSpans(columns_L, columns_L, np.zeros(0))
    states_T = Trellis(logprobs_TV, columns_L, blank, Corridor.whole(len(logprobs_TV), len(columns_L))).path()
    spoken_N = np.flatnonzero(states_T & 1)
    starts_L, ends_L = spans_of(states_T[spoken_N] >> 1, spoken_N)
    logprobs_N = logprobs_TV[spoken_N, columns_L[states_T[spoken_N] >> 1]].astype(np.float64)
    sums_L = np.add.reduceat(np.exp(logprobs_N), np.searchsorted(spoken_N, starts_L))
    return TokenSpans(starts_L, ends_L, sums_L / (ends_L - starts_L))


def spans_of(tokens_N: NDArray[np.int64], positions_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return the first position of each token, and the one behind its last: both given are in order, N long."""
    firsts = np.flatnonzero(np.diff(tokens_N, prepend=-1))
    lasts = np.flatnonzero(np.diff(tokens_N, append=-1))
    return positions_N[firsts], positions_N[lasts] + 1


def word_times(
    symbols: Sequence[str], spans: TokenSpans, position_s: float, positions: int, language: str | None, delimiter: str
) -> tuple[Word, ...]:
    """Group tokens into words, given the L symbols they spell, their spans and how many positions the clip has.

    A word begins behind the ``delimiter`` (``|``), at a token that begins with ``▁``, and in languages without spaces
    at every character but a mark, which belongs to the one before it, or a letter of a Latin word. Punctuation belongs
    to the word before it, opening punctuation to the one behind it, and neither to a word's time: a comma lasts as
    long as the pause. The words' texts joined are the transcript, behind one space in languages that have them. A
    word's probability is the mean of its tokens'. Times are rounded to 0.01 s.
    """
    return _timed(_groups(symbols, delimiter, language in UNSPACED), spans, position_s, positions)


def given_word_times(
    words: Sequence[tuple[str, Sequence[str]]], gap: int, spans: TokenSpans, position_s: float, positions: int
) -> tuple[Word, ...]:
    """Return the times of given words: each its text, and the symbols that spell it, ``gap`` symbols between two.

    A word that is not spelled, and one of punctuation, is written with the word before it, or behind it if it opens.
    Texts begin with a space; else words are as ``word_times`` has them.
    """
    return _timed(_given(words, gap), spans, position_s, positions)


def _given(words: Sequence[tuple[str, Sequence[str]]], gap: int) -> list[_Group]:
    groups: list[_Group] = []
    number, opening = 0, ""
    for text, symbols in words:
        spoken = [at for at, symbol in enumerate(symbols, start=number) if any(map(_is_spoken, symbol))]
        number += len(symbols) + gap * bool(symbols)
        if spoken:
            groups.append(_Group(f"{opening} {text}", spoken[0], spoken[-1] + 1, True))
            opening = ""
        elif groups and not _opens(text):
            groups[-1].text += f" {text}"
        else:
            opening += f" {text}"
    if groups:
        groups[-1].text += opening
    return groups


def _timed(groups: Sequence[_Group], spans: TokenSpans, position_s: float, positions: int) -> tuple[Word, ...]:
    words: list[Word] = []
    for number, group in enumerate(groups):
        start, end = int(spans.starts_L[group.first]), int(spans.ends_L[group.end - 1])
        before = int(spans.ends_L[groups[number - 1].end - 1]) if number else -start  # the clip's beginning is no word
        behind = int(spans.starts_L[groups[number + 1].first]) if number + 1 < len(groups) else 2 * positions - end
        before_s, behind_s = margins((start - before) * position_s, (behind - end) * position_s)
        start_s, end_s = round(start * position_s - before_s, 2), round(end * position_s + behind_s, 2)
        start_s = max(start_s, words[-1].end_s if words else 0.0)  # they touch, and were rounded
        words.append(Word(start_s, end_s, group.text, float(np.mean(spans.probabilities_L[group.first : group.end]))))
    return tuple(words)


def margins(before_s: float, behind_s: float) -> tuple[float, float]:
    """Return what a word lasts before and behind its tokens, given how far the next ones on both sides are."""
    early_s, late_s = MARGINS_S
    return min(early_s, before_s / 2), min(late_s, behind_s - min(early_s, behind_s / 2))


@dataclass
class _Group:
    """The tokens of a word, of which those from ``first`` to before ``end`` are more than punctuation."""

    text: str
    first: int
    end: int
    spoken: bool


def _groups(symbols: Sequence[str], delimiter: str, unspaced: bool) -> list[_Group]:
    groups: list[_Group] = []
    for number, text, begins in _pieces(symbols, delimiter, unspaced):
        spoken = any(_is_spoken(character) for character in text)
        last = groups[-1] if groups else None
        if last is None or (last.spoken and begins and (spoken or _opens(text) or not unspaced)):
            groups.append(_Group(text, number, number + 1, spoken))
            continue
        last.text += text
        if spoken:
            last.first, last.end = last.first if last.spoken else number, number + 1
            last.spoken = True
    if len(groups) > 1 and not groups[-1].spoken:  # a dash at the very end
        groups[-2].text += groups.pop().text
    return groups


def _pieces(symbols: Sequence[str], delimiter: str, unspaced: bool) -> Iterator[tuple[int, str, bool]]:
    """Yield the tokens that spell something: number, text with the space before it, whether a word may begin there."""
    space, before = not unspaced, ""
    for number, symbol in enumerate(symbols):
        text = "" if symbol == delimiter else symbol.removeprefix(WORD_START)
        space = space or symbol == delimiter or (symbol.startswith(WORD_START) and bool(before))
        if not text:
            continue
        yield number, " " * space + text.replace(WORD_START, " "), space or (unspaced and not _joins(before, text))
        space, before = False, text


def _joins(before: str, text: str) -> bool:
    """Return whether a token goes on with a word of a language without spaces: a mark, or Latin letters or digits."""
    latin = before[-1:].isascii() and before[-1:].isalnum() and text[0].isascii() and text[0].isalnum()
    return latin or unicodedata.category(text[0]) in ("Mn", "Mc", "Me", "Cf")


def _is_spoken(character: str) -> bool:
    return unicodedata.category(character)[0] not in "PSZ"


def _opens(text: str) -> bool:
    """Return whether punctuation belongs to what follows it: opening brackets and quotes."""
    return unicodedata.category(text.strip()[:1] or " ") in ("Ps", "Pi")
