"""Estimation of n-gram models: interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, TR-10-98), unpruned.

Counts and the treatment of ``<s>`` are those of KenLM (Heafield et al. 2013, "Scalable Modified Kneser-Ney Language
Model Estimation"). What differs is the end of the chain of back-off: here it is the share of new words.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from asr.models.ctc.ngram import BEGIN, DIGITS, END, NEVER, UNKNOWN, Ngram, NgramModel

_FALLBACK = (0.5, 1.0, 1.5)  # KenLM's, where there is too little text to estimate the discounts from


def train_ngram(sentences: Iterable[Sequence[str]], order: int, alphabet: Iterable[str] = ()) -> NgramModel:
    """Return the model of sentences, each a sequence of words (or of symbols, if they are what is counted).

    The probability of all words never seen, ``<unk>``, is what discounting takes from those seen: much where many
    were seen once. Words of ``alphabet`` that were not seen get equal parts of it.
    """
    counts = _counts(sentences, order)
    logs: dict[Ngram, float] = {}
    backoffs: dict[Ngram, float] = {}
    seen = {ngram[0] for ngram in counts[0]}
    new = sorted({UNKNOWN, *alphabet} - (seen - {UNKNOWN}) - {BEGIN, END})
    lower: dict[Ngram, float] = {(word,): 1 / len(new) for word in new}
    for n, counted in enumerate(counts, 1):
        discounts, totals = _discounts(counted), _totals(counted)
        left = _left(counted, discounts, totals)
        probabilities = {word: left.get((), 1.0) * share for word, share in lower.items()} if n == 1 else {}
        for ngram, count in counted.items():
            context, shorter = ngram[:-1], ngram[1:] if n > 1 else ngram
            kept = (count - discounts[min(count, 3) - 1]) / totals[context]
            probabilities[ngram] = kept + left[context] * lower.get(shorter, 0.0)
        logs |= {ngram: _log10(probability) for ngram, probability in probabilities.items()}
        if n > 1:
            backoffs |= {context: _log10(share) for context, share in left.items()}
        lower = probabilities
    logs[BEGIN,] = NEVER
    return NgramModel(order, logs, backoffs)


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """Return the n-grams of each order with their counts.

    Those of the highest order, and those that begin a sentence, have their number of occurrences; all others, the
    number of different words before them.
    """
    counts: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        padded = (BEGIN, *(UNKNOWN if word in (BEGIN, END) else word for word in sentence), END)
        for end in range(2, len(padded) + 1):
            ngram = padded[max(end - order, 0) : end]
            counts[len(ngram) - 1][ngram] += 1
    for n in range(order - 1, 0, -1):
        counts[n - 1].update(ngram[1:] for ngram in counts[n])
    return counts


def _totals(counted: Mapping[Ngram, int]) -> dict[Ngram, int]:
    """Return the count of each history."""
    totals: dict[Ngram, int] = defaultdict(int)
    for ngram, count in counted.items():
        totals[ngram[:-1]] += count
    return totals


def _left(counted: Mapping[Ngram, int], discounts: Sequence[float], totals: Mapping[Ngram, int]) -> dict[Ngram, float]:
    """Return of each history the share that discounting takes from the words seen after it."""
    taken: dict[Ngram, float] = defaultdict(float)
    for ngram, count in counted.items():
        taken[ngram[:-1]] += discounts[min(count, 3) - 1]
    return {context: taken[context] / total for context, total in totals.items()}


def _discounts(counted: Mapping[Ngram, int]) -> tuple[float, float, float]:
    """Return what is taken from a count of 1, of 2, and of 3 or more."""
    having = Counter(min(count, 5) for count in counted.values())
    if all(having[count] for count in (1, 2, 3, 4)):
        share = having[1] / (having[1] + 2 * having[2])
        one, two, three = (count - (count + 1) * share * having[count + 1] / having[count] for count in (1, 2, 3))
        if one > 0 and two > 0 and three > 0:
            return one, two, three
    return _FALLBACK


def _log10(probability: float) -> float:
    return round(math.log10(probability), DIGITS)
