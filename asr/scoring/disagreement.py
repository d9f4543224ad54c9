"""Finds the utterances that models transcribe differently, and marks each word of each model against the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from asr.scoring.edits import align_words, count
from asr.scoring.written_text import WrittenText, align_written, written

Mark = Literal["equal", "spelling", "substitute", "delete", "insert"]

_MOST_WORDS = 4  # of a phrase in the list of spellings: a longer one is another sentence, not another spelling


@dataclass(frozen=True)
class MarkedWord:
    """A word as a model wrote it, or one of the reference that it left out (``delete``).

    ``spelling``: the right word, in other case or with other punctuation.
    """

    text: str
    mark: Mark


@dataclass(frozen=True)
class Disagreement:
    """An utterance, by its place in the results, that models transcribe differently.

    ``words`` is how many words the two that differ most differ in; ``written_words`` counts case and punctuation too,
    and is never 0.
    """

    place: int
    words: int
    written_words: int


@dataclass(frozen=True)
class SpelledDifferently:
    """A word or short phrase of the references ("": none) and what each model wrote for it, ``times`` times.

    Words are in small letters, as they are compared. ``place`` is that of the first utterance.
    """

    reference: str
    heard: tuple[str, ...]
    times: int
    place: int


def disagreements(hypotheses: Sequence[Sequence[str]], language: str | None = None) -> list[Disagreement]:
    """Return the utterances on which models differ, the worst first: most words, then most in writing.

    ``hypotheses`` has the transcripts of each model, of the same utterances in the same order.
    """
    found = []
    for place, texts in enumerate(zip(*hypotheses, strict=True)):
        typed = [" ".join(text.split()) for text in texts]
        if len(set(typed)) > 1:
            compared = [" ".join(written(text, language).words) for text in typed]
            found.append(Disagreement(place, _apart(compared), _apart(typed)))
    return sorted(found, key=lambda one: (-one.words, -one.written_words, one.place))


def _apart(texts: Sequence[str]) -> int:
    """Return the edits in words between the two texts that differ most."""
    return max(count(align_words(one, other)).errors for one, other in combinations(texts, 2))


def marked(reference: str, hypothesis: str, language: str | None = None) -> list[MarkedWord]:
    """Return a transcript's words as they were written, and the reference's that are not in it at their places."""
    said, heard = written(reference, language), written(hypothesis, language)
    return [_marked(said, heard, one.reference, one.hypothesis) for one in align_written(said, heard)]


def _marked(said: WrittenText, heard: WrittenText, one: int | None, other: int | None) -> MarkedWord:
    if other is None:
        assert one is not None
        return MarkedWord(said.chunks[one], "delete")
    if one is None:
        return MarkedWord(heard.chunks[other], "insert")
    if said.words[one] != heard.words[other]:
        return MarkedWord(heard.chunks[other], "substitute")
    same = said.chunks[one].strip() == heard.chunks[other].strip()
    return MarkedWord(heard.chunks[other], "equal" if same else "spelling")


def spelled_differently(
    references: Sequence[str], hypotheses: Sequence[Sequence[str]], language: str | None = None
) -> list[SpelledDifferently]:
    """Return what models wrote differently for the same words of the references, the most frequent first.

    A word that one model cut in two ("christ maus") stands beside the other's whole one.
    """
    times: Counter[tuple[str, tuple[str, ...]]] = Counter()
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    for place, (reference, *texts) in enumerate(zip(references, *hypotheses, strict=True)):
        said = written(reference, language)
        for start, end, heard in _regions(said, [written(text, language) for text in texts]):
            if len(set(heard)) > 1 and max(len(each.split()) for each in heard) <= _MOST_WORDS:
                found = (" ".join(said.words[start:end]), heard)
                times[found] += 1
                first.setdefault(found, place)
    ordered = sorted(times, key=lambda found: (-times[found], not found[0], first[found]))
    return [SpelledDifferently(*found, times[found], first[found]) for found in ordered]


def _regions(said: WrittenText, texts: Sequence[WrittenText]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the stretches of a reference's words that a model has other words for, and what each has.

    Wrong words in a row are stretches of their own where each model has one for one.
    """
    places = [_placed(said, heard) for heard in texts]
    runs: list[tuple[int, int]] = []
    for start, end in sorted({place for each in places for place, right, _ in each if not right}):
        if runs and runs[-1][1] >= start:
            start, end = runs[-1][0], max(runs.pop()[1], end)
        runs.append((start, end))
    for start, end in runs:
        heard = [_within(each, start, end) for each in places]
        if all(len(words) == end - start for words in heard):
            for index, words in enumerate(zip(*heard, strict=True)):
                yield start + index, start + index + 1, words
        else:
            yield start, end, tuple(" ".join(words) for words in heard)


_Placed = tuple[tuple[int, int], bool, str]  # a stretch of the reference, whether the word is right, the word


def _placed(said: WrittenText, heard: WrittenText) -> list[_Placed]:
    at = 0
    placed = []
    for one in align_written(said, heard):
        word = "" if one.hypothesis is None else heard.words[one.hypothesis]
        if one.reference is None:
            placed.append(((at, at), False, word))
        else:
            placed.append(((one.reference, one.reference + 1), one.operation == "equal", word))
            at = one.reference + 1
    return placed


def _within(placed: Sequence[_Placed], start: int, end: int) -> list[str]:
    return [word for (one, other), _, word in placed if word and start <= one and other <= end]
