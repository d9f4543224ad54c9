"""Checks of a CTC model's labels for `check`: its vocabulary against the transcripts, clips against their labels."""

from __future__ import annotations

from typing import cast

from asr.errors import UserError
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.text_rules import is_spoken
from asr.models.ctc.vocabulary import named
from asr.models.ctc.vocabulary_report import mismatch, unseen
from asr.models.training import Finding, LabelSample

_SHOWN = 10
_NO_ROOM = "label_needs_more_frames"


def vocabulary(sample: LabelSample) -> Finding:
    """Check that the vocabulary writes the transcripts, those that are only scored too."""
    if not sample.labels:
        first = sample.unlabelled[0]
        raise UserError(
            f"no transcript can be made a label, such as '{first.id}': {first.reason} {first.detail}",
            "mend the transcripts, or set ctc.vocabulary=transcripts",
        )
    symbols = _processor(sample).vocabulary
    own = "" if sample.has_new_vocabulary else mismatch(symbols, ((row.id, row.text) for row, _ in sample.labels))
    if told := "; ".join(filter(None, (own, *_unseen(sample)))):
        return told, "set ctc.vocabulary=transcripts" if own else "they are errors in any case: is the data alike?"
    rules = symbols.rules
    case = "their own case" if rules.casing == "keep" else f"{rules.casing} case"
    marks = "with" if rules.punctuation == "keep" else "without"
    return f"{symbols.size} symbols write {len(sample.labels)} transcripts in {case}, {marks} punctuation", ""


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
        longest = max(len(ids) for _, ids in sample.labels)
        return f"the longest has {longest} symbols; each clip has a position for each of its own", ""
    told = f"{len(short)} of {len(short) + len(sample.labels)} transcripts have more symbols than their clips positions"
    if len(short) > sample.max_quarantined_share * (len(short) + len(sample.labels)):
        raise UserError(f"{told}, such as '{short[0].id}': {short[0].detail}", "do they belong together?")
    return f"{told}, such as '{short[0].id}': {short[0].detail}", "they go into quarantine"


def _unseen(sample: LabelSample) -> list[str]:
    found = []
    for key, rows in sample.scored.items():
        found_unseen = unseen(_processor(sample).vocabulary, ((row.id, row.text) for row in rows))
        lacking = {one: told for one, told in found_unseen.items() if is_spoken(one)}
        if lacking:
            shown = ", ".join(f"{named(one)} ({count} times)" for one, (count, _) in list(lacking.items())[:_SHOWN])
            found.append(f"{key} has letters that are never learnt: {shown}")
    return found


def _processor(sample: LabelSample) -> CtcProcessor:
    return cast(CtcProcessor, sample.processor)
