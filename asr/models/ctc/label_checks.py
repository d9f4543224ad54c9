"""Checks of a CTC model's labels for `check`: its vocabulary against the transcripts, clips against their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from asr.errors import UserError
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.tokenizer_files import has_chosen_rules
from asr.models.ctc.vocabulary import named
from asr.models.ctc.vocabulary_report import mismatch, unseen
from asr.models.family import Finding, LabelSample
from asr.utterance import Quarantined

_SHOWN = 10
_NO_ROOM, _NO_LETTERS = "label_needs_more_frames", "unknown_letters"
_NEW = "ctc.vocabulary=transcripts makes a new one, in the letter case that ctc.casing says; or mend the transcripts"


def vocabulary(sample: LabelSample) -> Finding:
    """Check that the vocabulary writes the transcripts, those that are only scored too.

    Letter case and punctuation that it changes are told where it is a published one, whose case nobody has chosen.
    """
    lacking = [row for row in sample.unlabelled if row.reason == _NO_LETTERS]
    count = len(sample.labels) + len(sample.unlabelled)
    told = [f"{len(lacking)} of {count} transcripts have letters that the vocabulary lacks, {_first(lacking)}"]
    if len(lacking) > sample.max_quarantined_share * count:
        raise UserError(told[0], _NEW)
    if not sample.labels:
        first = sample.unlabelled[0]
        raise UserError(
            f"no transcript can be made a label, such as '{first.id}': {first.reason} {first.detail}",
            "mend the transcripts",
        )
    told = told if lacking else []
    symbols = _processor(sample).vocabulary
    changed = mismatch(symbols, ((row.id, row.text) for row, _ in sample.labels))
    if not has_chosen_rules(sample.folder):
        told += filter(None, [changed])
    told += _unseen(sample)
    if told:
        return "; ".join(told), _NEW
    rules = symbols.rules
    return f"{symbols.size} symbols, casing {rules.casing}, punctuation {rules.punctuation}: {_as_chosen(changed)}", ""


def spelling(sample: LabelSample) -> Finding:
    """Check that the symbols of a label spell its transcript, as the vocabulary's rules have it."""
    symbols = _processor(sample).vocabulary
    for row, ids in sample.labels:
        spelt, wanted = symbols.decode(ids), sample.processor.usable(row.text)
        if spelt != wanted:
            raise UserError(f"'{row.id}': the symbols of {wanted!r} spell {spelt!r}", "copy the tokenizer anew")
    row, ids = sample.labels[0]
    return f"{row.text.strip()!r} is learnt as {symbols.decode(ids)!r}", ""


def length(sample: LabelSample) -> Finding:
    """Check that the encoder has a position for each symbol of a clip."""
    short = [row for row in sample.unlabelled if row.reason == _NO_ROOM]
    if not short:
        longest = max((len(ids) for _, ids in sample.labels), default=0)
        return f"the longest has {longest} symbols; each clip has a position for each of its own", ""
    told = f"{len(short)} of {len(short) + len(sample.labels)} transcripts have more symbols than their clips positions"
    if len(short) > sample.max_quarantined_share * (len(short) + len(sample.labels)):
        raise UserError(f"{told}, such as '{short[0].id}': {short[0].detail}", "do they belong together?")
    return f"{told}, such as '{short[0].id}': {short[0].detail}", "they go into quarantine"


def _unseen(sample: LabelSample) -> list[str]:
    found = []
    for key, rows in sample.scored.items():
        lacking = unseen(_processor(sample).vocabulary, ((row.id, row.text) for row in rows))
        if lacking:
            shown = ", ".join(f"{named(one)} ({count} times)" for one, (count, _) in list(lacking.items())[:_SHOWN])
            found.append(f"{key} has characters that are never learnt: {shown}")
    return found


def _first(rows: Sequence[Quarantined]) -> str:
    return f"such as '{rows[0].id}': {rows[0].detail}" if rows else ""


def _as_chosen(changed: str) -> str:
    return "transcripts are changed as chosen" if changed else "they write the transcripts as they are"


def _processor(sample: LabelSample) -> CtcProcessor:
    return cast(CtcProcessor, sample.processor)
