"""Language model of the beam search: n-grams of words and of symbols as one model of an open vocabulary.

A word is foretold in one of two ways: as a word that was seen, or as a new one (``<unk>``) that is spelled symbol by
symbol. Its probability is the sum of both. While a word is being spelled, its spelling alone counts; when it ends, the
word's probability takes its place (as in Hori, Watanabe and Hershey 2017, "Multi-level language modeling and decoding
for open vocabulary end-to-end speech recognition"). A language without spaces has the model of symbols only.

Legend: V symbols, W symbols and the end of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.models.ctc.ngram import BEGIN, END, LN_10, UNKNOWN, Ngram, NgramModel
from asr.models.ctc.ngram_training import train_ngram
from asr.models.ctc.spelling import Spelling

Floats = NDArray[np.float64]

WORD_ORDER = 3
SYMBOL_ORDER = 6


@dataclass(frozen=True)
class Weights:
    """Say of the language model against the emissions."""

    alpha: float = 0.7
    """Factor of the log probability."""
    beta: float = 1.0
    """Bonus of a word, without which short texts win; of a symbol where there is no model of words."""


class LanguageModel:
    """N-grams of words, of symbols or of both, for texts spelled with ``spelling``."""

    def __init__(
        self,
        spelling: Spelling,
        symbols: NgramModel | None = None,
        words: NgramModel | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.spelling, self.weights = spelling, weights or Weights()
        self.symbols, self.words = symbols, words if spelling.has_words else None
        self._rows: dict[Ngram, Floats] = {}
        self._followers = {} if symbols is None else _followers(symbols, spelling.symbols)

    def start(self) -> _LanguageState:
        """Return the state of an empty text."""
        return _LanguageState(self, (BEGIN,), (BEGIN,))

    def row_W(self, context: Ngram) -> Floats:
        """Return the log probability of each symbol after a context of the model of symbols, and that none follows."""
        if (row_W := self._rows.get(context)) is None:
            row_W = self._rows[context] = self._row_W(context)
            row_W.flags.writeable = False
        return row_W

    def _row_W(self, context: Ngram) -> Floats:
        size = len(self.spelling.symbols)
        if self.symbols is None:
            return np.full(size + 1, -math.log(size))  # without a model of spellings all are as likely
        if context:
            row_W = self.row_W(context[1:]) + self.symbols.backoff(context)
        else:
            row_W = np.full(size + 1, self.symbols.score((), UNKNOWN))
        columns, logs = self._followers.get(context, ((), ()))
        row_W[list(columns)] = logs
        return row_W

    def closing(self, context: Ngram) -> float:
        """Return the log probability that a word's spelling is whole: the delimiter follows, or nothing.

        0 for subwords, of which none says that.
        """
        delimiter = self.spelling.word_delimiter
        return 0.0 if delimiter is None else float(np.logaddexp(*self.row_W(context)[[delimiter, -1]]))

    def word(self, history: Ngram, word: str, spelled: float) -> float:
        """Return the log probability of a word, of which ``spelled`` is that of its spelling."""
        if self.words is None:
            return spelled
        new = self.words.score(history, UNKNOWN) + spelled
        return float(np.logaddexp(self.words.score(history, word), new)) if (word,) in self.words.logs else new


def _followers(model: NgramModel, symbols: Sequence[str]) -> dict[Ngram, tuple[list[int], list[float]]]:
    """Return of each context the columns of a row that the model has n-grams for, and their log probabilities."""
    columns: dict[str, list[int]] = {END: [len(symbols)]}
    for column, symbol in enumerate(symbols):
        if symbol != END:
            columns.setdefault(model.known(symbol), []).append(column)
    followers: dict[Ngram, tuple[list[int], list[float]]] = {}
    for (*context, last), log in model.logs.items():
        for column in columns.get(last, ()):
            there, logs = followers.setdefault(tuple(context), ([], []))
            there.append(column)
            logs.append(log * LN_10)
    return followers


@dataclass(frozen=True)
class _LanguageState:
    """A text: the words that ended, what is spelled of the next one, and what the n-grams look at."""

    model: LanguageModel
    history: Ngram
    context: Ngram
    word: str = ""
    spelled: float = 0.0
    """Log probability of the symbols since the last word ended."""

    @cached_property
    def row_V(self) -> Floats:
        model, weights = self.model, self.model.weights
        row_V = weights.alpha * model.row_W(self.context)[:-1]
        if model.words is None:
            return np.asarray(row_V + weights.beta)
        if self.word:
            delimiter = model.spelling.word_delimiter
            if delimiter is None:
                row_V[model.spelling.boundaries_V] += self._word_bonus
            else:
                row_V[delimiter] = self._word_bonus
        return row_V

    @property
    def end(self) -> float:
        model, alpha = self.model, self.model.weights.alpha
        if model.words is None:
            return alpha * float(model.row_W(self.context)[-1])
        if not self.word:
            return alpha * model.words.score(self.history, END)
        return self._word_bonus + alpha * model.words.score((*self.history, self.word), END)

    def after(self, symbol: int) -> _LanguageState:
        model, text = self.model, self.model.spelling.texts[symbol]
        context = self.context
        if model.symbols is not None:
            context = model.symbols.context((*context, model.spelling.symbols[symbol]))
        if model.words is None:
            return _LanguageState(model, (), context)
        if not text.startswith(" "):
            spelled = self.spelled + float(model.row_W(self.context)[symbol])
            return _LanguageState(model, self.history, context, self.word + text, spelled)
        history = model.words.context((*self.history, self.word)) if self.word else self.history
        spelled = 0.0 if symbol == model.spelling.word_delimiter else float(model.row_W(self.context)[symbol])
        return _LanguageState(model, history, context, text[1:], spelled)

    @cached_property
    def _word_bonus(self) -> float:
        """Bonus of ending the word here: its probability instead of that of the spelling so far."""
        whole = self.model.word(self.history, self.word, self.spelled + self.model.closing(self.context))
        return self.model.weights.alpha * (whole - self.spelled) + self.model.weights.beta


def train_language_model(
    sentences: Iterable[Sequence[int]], spelling: Spelling, weights: Weights | None = None
) -> LanguageModel:
    """Return the model of sentences as the vocabulary spells them, each a sequence of ids without blanks."""
    spelled = [list(sentence) for sentence in sentences]
    writing = [symbol for number, symbol in enumerate(spelling.symbols) if spelling.texts[number]]
    symbols = train_ngram(([spelling.symbols[one] for one in ids] for ids in spelled), SYMBOL_ORDER, writing)
    words = train_ngram(map(spelling.words, spelled), WORD_ORDER) if spelling.has_words else None
    return LanguageModel(spelling, symbols, words, weights)
