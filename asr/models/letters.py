"""Finds transcripts that a model is measured by and cannot write, for want of their letters."""

from __future__ import annotations

from collections.abc import Iterable

from asr.errors import DataError, UserError
from asr.models.processor import Processor
from asr.scoring.error_rates import has_words
from asr.utterance import Utterance


def require_letters(processor: Processor, utterances: Iterable[Utterance], whose: str) -> str:
    """Return in a sentence how many transcripts have letters that the vocabulary lacks, "" where none has.

    Raises UserError where most have: an error rate would be of the letters alone. ``whose`` names the transcripts, or
    the model.
    """
    spoken = lacking = 0
    first = ""
    for row in utterances:
        if not has_words(row.text):
            continue
        spoken += 1
        try:
            processor.usable(row.text)
        except DataError as error:
            if error.reason == "unknown_letters":
                lacking += 1
                first = first or f"'{row.id}': {error.detail}"
    if not lacking:
        return ""
    told = f"{whose}: {lacking} of {spoken} transcripts have letters that the vocabulary lacks, such as {first}"
    if lacking > spoken / 2:
        raise UserError(told, "take transcripts in the model's own script, or a model of theirs")
    return told
