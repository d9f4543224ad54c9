"""Steps of `check` for audio and transcripts, without any model: readable, held out, fit for scoring."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from asr.audio.decode import SAMPLE_RATE
from asr.data.split import transcript_key
from asr.errors import DataError, UserError
from asr.language import UNSPACED
from asr.scoring.normalizer import Normaliser, normalise
from asr.utterance import Quarantined, Utterance
from train.augmentation import augment
from train.checks.subject import CheckOutcome, Rows, Subject, spread
from train.data import casing, pace

_SHOWN = 3
_TRANSCRIPTS = 1000
_DOTTED_OR_NOT = frozenset("i\u0131\u0307")  # which is the lower case of I depends on the language
_LONG_TEXT = 20  # characters: a transcript of so many without a space is more than one word


def data(subject: Subject) -> CheckOutcome:
    """The sources open, rows have transcripts, and sampled clips decode."""
    training = subject.training
    if not training.utterances:
        first = f": {_faults(training.quarantined)}" if training.quarantined else ""
        raise UserError(f"data.train holds no usable row{first}", "see what it holds: whisperfleet data inspect SOURCE")
    faulty_rows = training.quarantined + [fault for row in training.utterances for fault in _faults_of(subject, row)]
    sampled = subject.sampled
    tried = len(sampled.clips) + len(sampled.faults)
    seconds = sum(len(waveform) for _, waveform in sampled.clips) / SAMPLE_RATE
    detail = f"{tried} of {_counted(training)} decoded, {seconds:.0f} s of audio"
    allowed = subject.config.data.max_quarantined_share
    for faults, of, what in ((faulty_rows, training.count, "rows"), (sampled.faults, tried, "sampled clips")):
        if len(faults) > allowed * of:
            raise UserError(
                f"{len(faults)} of {of} {what} cannot be used, over data.max_quarantined_share={allowed:g}: "
                f"{_faults(faults)}",
                "mend the data, or raise data.max_quarantined_share",
            )
    faults = faulty_rows + sampled.faults
    if faults:
        return CheckOutcome("warning", f"{detail}; for quarantine: {_faults(faults)}", "they are left out of training")
    return CheckOutcome("ok", detail)


def _faults_of(subject: Subject, row: Utterance) -> list[Quarantined]:
    """Return what is wrong with a row without decoding its audio, if anything."""
    if not row.text.strip():
        return [Quarantined(row.id, "no_transcript")]
    try:
        subject.pieces(row, row.duration_s)
    except DataError as error:
        return [Quarantined(row.id, error.reason, error.detail)]
    return []


def overlap(subject: Subject) -> CheckOutcome:
    """Check that no transcript is both trained on and held out: its error rate would be of text learnt by heart."""
    held_out = subject.held_out
    if not held_out:
        return CheckOutcome("skipped", "neither data.validation nor data.retention is set")
    trained = {transcript_key(row) for row in subject.training.utterances}
    found = []
    for key, rows in held_out.items():
        if not rows.utterances:
            raise UserError(f"{key} holds no usable row", "see what it holds: whisperfleet data inspect SOURCE")
        both = [row for row in rows.utterances if transcript_key(row) in trained]
        if both:
            share = f"{len(both)} of {_counted(rows)} of {key} ({len(both) / len(rows.utterances):.0%})"
            found.append(f"{share} have a transcript that is trained on, such as '{both[0].id}': {both[0].text!r}")
    if found:
        hint = "whisperfleet data prepare deals clips so that no transcript is in two splits"
        return CheckOutcome("warning", "; ".join(found), hint)
    read = "" if subject.training.complete else f", as far as read ({len(subject.training.utterances)} rows)"
    return CheckOutcome("ok", f"no transcript of {', '.join(held_out)} is trained on{read}")


def letter_case(subject: Subject) -> CheckOutcome:
    """Check that transcripts have both letter cases, if the script has two, and punctuation."""
    found = []
    for name, rows in {**subject.parts, **subject.held_out}.items():
        cases = casing.Casing()
        for row in spread(rows.utterances, _TRANSCRIPTS):
            cases.add(row.id, row.text)
        if finding := cases.finding():
            found.append(f"{name}: {finding}")
    if found:
        return CheckOutcome("warning", "; ".join(found), casing.ADVICE)
    return CheckOutcome("ok", "transcripts are not all of one case")


def speaking_rate(subject: Subject) -> CheckOutcome:
    """Check that transcripts can be spoken in the length of their clips, over all sampled clips together."""
    rows = subject.training.utterances
    seconds = {row.id: len(waveform) / SAMPLE_RATE for row, waveform in subject.sampled.clips}
    chosen = [number for number, row in enumerate(rows) if row.id in seconds]
    reach = max(pace.SHIFTS)
    seen = pace.Pace()
    for number in sorted({near for at in chosen for near in range(at - reach, at + reach + 1)} & set(range(len(rows)))):
        seen.add(rows[number].text, seconds.get(rows[number].id))
    figures = seen.figures()
    if figures is None:
        return CheckOutcome("skipped", "no sampled clip has words")
    if found := figures.findings():
        return CheckOutcome("warning", "; ".join(found), pace.ADVICE)
    fits = "" if figures.agreement is None else f", rank correlation of text and length {figures.agreement:.2f}"
    return CheckOutcome("ok", f"{figures.letters_per_s:.1f} letters a second in {figures.clips} clips{fits}")


def augmentation(subject: Subject) -> CheckOutcome:
    """Check that noise can be read and codecs are there."""
    config = subject.config.augment
    effects = [name for name in type(config).model_fields if getattr(config, name).probability]
    if not effects:
        return CheckOutcome("skipped", "no augmentation is set")
    augment.require(config)
    return CheckOutcome("ok", ", ".join(effects))


def normaliser(subject: Subject, kind: Normaliser = "normalised") -> CheckOutcome:
    """Check that the normaliser loses no letter, vowel sign or whole transcript before texts are compared."""
    chosen = [row for row in spread(subject.training.utterances, _TRANSCRIPTS) if row.text.strip()]
    erased = [row for row in chosen if not normalise(row.text, kind, subject.language(row))]
    if len(erased) > subject.config.data.max_quarantined_share * len(chosen):
        raise UserError(
            f"nothing is left to score of {len(erased)} of {len(chosen)} transcripts, such as '{erased[0].id}': "
            f"{erased[0].text!r}",
            "transcripts need letters or digits",
        )
    lost = sum((_lost(row.text, kind, subject.language(row)) for row in chosen), Counter[str]())
    if lost:
        shown = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, 'unnamed')}" for c, _ in lost.most_common(_SHOWN))
        raise UserError(f"normalisation loses {lost.total()} letters and marks: {shown}", "read the orthographic WER")
    marks = sum(unicodedata.category(c)[0] == "M" for row in chosen for c in unicodedata.normalize("NFC", row.text))
    detail = f"{len(chosen)} transcripts" + (f", all {marks} combining marks survive" if marks else "")
    if erased:
        detail += f"; {len(erased)} hold no letter, such as '{erased[0].id}': {erased[0].text!r}"
        return CheckOutcome(
            "warning", detail, "remove them: nothing is learnt from them; evaluate counts words on silence"
        )
    if _unspaced(chosen, subject):
        return CheckOutcome("ok", f"{detail}; written without spaces: read the CER, not the WER")
    return CheckOutcome("ok", detail)


def _lost(text: str, kind: Normaliser, language: str | None) -> Counter[str]:
    """Count the letters, digits and marks of a text that its normalised form has not."""
    return _said(text) - _said(normalise(text, kind, language))


def _said(text: str) -> Counter[str]:
    written = "".join(filter(_is_said, unicodedata.normalize("NFC", text)))
    compared = unicodedata.normalize("NFKC", written).casefold()
    return Counter(c for c in compared if _is_said(c) and c not in _DOTTED_OR_NOT)


def _is_said(character: str) -> bool:
    category = unicodedata.category(character)
    is_mark = category in ("Mn", "Mc") and "VARIATION SELECTOR" not in unicodedata.name(character, "")
    return category[0] in "LN" or is_mark


def _unspaced(rows: Sequence[Utterance], subject: Subject) -> bool:
    long = [row.text.strip() for row in rows if len(row.text.strip()) > _LONG_TEXT]
    without = sum(len(text.split()) == 1 for text in long)
    return without > len(long) / 2 or any(subject.language(row) in UNSPACED for row in rows)


def _counted(rows: Rows) -> str:
    return f"{len(rows.utterances)} rows" if rows.complete else f"the first {len(rows.utterances)} rows"


def _faults(faults: Sequence[Quarantined]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in faults).most_common())
    first = next((row for row in faults if row.detail), faults[0])
    return f"{counts}, such as '{first.id}'" + (f" ({first.detail})" if first.detail else "")
