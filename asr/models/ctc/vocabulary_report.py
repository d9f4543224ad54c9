"""Report of what a vocabulary lacks: characters that only some texts have, and transcripts of another make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from asr.models.ctc.text_rules import TextRules, alternatives, is_spoken
from asr.models.ctc.vocabulary import CtcVocabulary, named

_EXAMPLES = 5


class Unseen(NamedTuple):
    """A character's occurrences in texts, and the id of the first text that has it."""

    occurrences: int
    example: str


def unseen(vocabulary: CtcVocabulary, texts: Iterable[tuple[str, str]]) -> dict[str, Unseen]:
    """Return the characters that the vocabulary cannot write, of texts with their ids; the most frequent first.

    Punctuation is among them, which ``encode`` drops; a letter makes a text that cannot be learnt, and is never said.
    """
    found: dict[str, Unseen] = {}
    for example, text in texts:
        if lacking := vocabulary.unknown_in(text):
            ruled = vocabulary.rules.apply(text)
            for one in lacking:
                before = found.get(one, Unseen(0, example))
                found[one] = Unseen(before.occurrences + ruled.count(one), before.example)
    return dict(sorted(found.items(), key=lambda item: (-item[1].occurrences, item[0])))


def mismatch(vocabulary: CtcVocabulary, texts: Iterable[tuple[str, str]]) -> str:
    """Return in one sentence how transcripts, with their ids, differ from what the vocabulary writes; "" if not at all.

    It tells of letters that are missing, of a case that is changed and of punctuation that is dropped.
    """
    rows = list(texts)
    lacking = unseen(vocabulary, rows)
    letters = [f"{named(one)} (in {told.example})" for one, told in lacking.items() if is_spoken(one)]
    marks = {one for _, text in rows for one in text if one.isprintable() and not is_spoken(one)} - {" "}
    dropped = sorted(one for one in marks if vocabulary.letters.isdisjoint({one, *alternatives(one)}))
    told = []
    if letters:
        more = f" and {len(letters) - _EXAMPLES} more" if len(letters) > _EXAMPLES else ""
        told.append(f"it has no {', '.join(letters[:_EXAMPLES])}{more}")
    cased = replace(vocabulary.rules, punctuation="keep")
    if any(cased.apply(text) != TextRules().apply(text) for _, text in rows):
        told.append(f"it is {cased.casing} case alone, and so will be what is said")
    if dropped:
        told.append(f"it has no {' '.join(map(named, dropped[:_EXAMPLES]))}, which will be dropped")
    return f"the vocabulary differs from the transcripts: {'; '.join(told)}" if told else ""
