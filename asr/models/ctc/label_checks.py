"""Checks of a CTC model's labels for `check`: its vocabulary against the transcripts, clips against their labels."""

from __future__ import annotations

from typing import cast

from asr.errors import UserError
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.text_rules import is_spoken
from asr.models.ctc.vocabulary import named
from asr.models.ctc.vocabulary_report import mismatch, unseen
from asr.models.letters import require_letters
from asr.models.training import Finding, LabelSample

_SHOWN = 10
_NO_ROOM, _NO_LETTERS = "label_needs_more_frames", "unknown_letters"
_ANEW = "set ctc.vocabulary=transcripts, and ctc.casing and ctc.punctuation as you want them written"


def vocabulary(sample: LabelSample) -> Finding:
    """Check that the vocabulary writes the transcripts, those that are only scored too."""
    lacking = [row for row in sample.unlabelled if row.reason == _NO_LETTERS]
    count, told = len(sample.labels) + len(sample.unlabelled), []
    if lacking:
        shown = f"such as '{lacking[0].id}': {lacking[0].detail}"
        told.append(f"{len(lacking)} of {count} transcripts have letters that the vocabulary lacks, {shown}")
        if len(lacking) > sample.max_quarantined_share * count:
            raise UserError(told[0], f"{_ANEW}, or mend the transcripts")
    if not sample.labels:
        first = sample.unlabelled[0]
        raise UserError(
            f"no transcript can be made a label, such as '{first.id}': {first.reason} {first.detail}",
            "mend the transcripts",
        )
    symbols = _processor(sample).vocabulary
    own = "" if sample.has_new_vocabulary else mismatch(symbols, ((row.id, row.text) for row, _ in sample.labels))
    told += [*filter(None, [own]), *_unseen(sample)]
    if told:
        return "; ".join(told), _ANEW if own or lacking else "they are errors in any case: is the data alike?"
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
        longest = max((len(ids) for _, ids in sample.labels), default=0)
        return f"the longest has {longest} symbols; each clip has a position for each of its own", ""
    told = f"{len(short)} of {len(short) + len(sample.labels)} transcripts have more symbols than their clips positions"
    if len(short) > sample.max_quarantined_share * (len(short) + len(sample.labels)):
        raise UserError(f"{told}, such as '{short[0].id}': {short[0].detail}", "do they belong together?")
    return f"{told}, such as '{short[0].id}': {short[0].detail}", "they go into quarantine"


def _unseen(sample: LabelSample) -> list[str]:
    found = []
    for key, rows in sample.scored.items():
        require_letters(_processor(sample), rows, key)
        found_unseen = unseen(_processor(sample).vocabulary, ((row.id, row.text) for row in rows))
        lacking = {one: told for one, told in found_unseen.items() if is_spoken(one)}
        if lacking:
            shown = ", ".join(f"{named(one)} ({count} times)" for one, (count, _) in list(lacking.items())[:_SHOWN])
            found.append(f"{key} has letters that are never learnt: {shown}")
    return found


def _processor(sample: LabelSample) -> CtcProcessor:
    return cast(CtcProcessor, sample.processor)
