"""Steps of `check` for the base and for label tokens; the base's family decides what is checked in the tokens."""

from __future__ import annotations

from collections import Counter

from asr.models.training import Finding
from train.checks.subject import CheckOutcome, Subject


def base(subject: Subject) -> CheckOutcome:
    """The base is there, with a tokenizer and features."""
    return CheckOutcome("ok", f"{subject.checkpoint.name}, {subject.processor.about}")


def language(subject: Subject) -> CheckOutcome:
    """The base can be trained on the language of each row."""
    counts = Counter(subject.language(row) for row in subject.training.utterances)
    for name in counts:
        subject.processor.require(name, subject.config.task)
    shown = ", ".join(f"{name or 'en'} ({count})" for name, count in counts.most_common())
    return CheckOutcome("ok", f"{shown}, task {subject.config.task}")


def start(subject: Subject) -> CheckOutcome:
    """Check that labels can be made, and start as the network is started."""
    return _outcome(subject.family.check_start(subject))


def order(subject: Subject) -> CheckOutcome:
    """Check that tokens are in the network's order, and those of the text spell the transcript."""
    return _outcome(subject.family.check_order(subject))


def length(subject: Subject) -> CheckOutcome:
    """Check that labels fit the network, and their clips."""
    return _outcome(subject.family.check_length(subject))


def generation(subject: Subject) -> CheckOutcome:
    """Check that the base's settings, which the artifact inherits, decode as the labels are written."""
    return _outcome(subject.family.check_generation(subject))


def _outcome(finding: Finding) -> CheckOutcome:
    detail, hint = finding
    return CheckOutcome("warning" if hint else "ok", detail, hint)
