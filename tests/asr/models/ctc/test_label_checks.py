from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.label_checks import length, spelling, vocabulary
from asr.models.ctc.processor import load_processor
from asr.utterance import Quarantined, Utterance

ROWS = [Utterance("one", "1.wav", "hello there"), Utterance("two", "2.wav", "good morning")]


@pytest.fixture
def sample(checkpoint: Callable[[str], Path]) -> Callable[..., Any]:
    """What `check` hands over, of a checkpoint with letters of one case and without punctuation."""
    processor = load_processor(Checkpoint("tiny", checkpoint("wav2vec2-base-960h"), "sha256:1"))

    def made(rows: list[Utterance] = ROWS, **more: Any) -> Any:
        labels = [(row, processor.vocabulary.encode(row.text)) for row in rows]
        usual = {"unlabelled": [], "scored": {}, "has_new_vocabulary": False, "max_quarantined_share": 0.05}
        return SimpleNamespace(processor=processor, labels=labels, **usual | more)

    return made


def test_a_vocabulary_that_writes_the_transcripts_is_fine(sample: Callable[..., Any]) -> None:
    detail, hint = vocabulary(sample())
    assert (detail.endswith("symbols write 2 transcripts in lower case, without punctuation"), hint) == (True, "")


def test_another_letter_case_and_dropped_marks_are_told_of_a_checkpoints_own_vocabulary(
    sample: Callable[..., Any],
) -> None:
    rows = [Utterance("one", "1.wav", "Hello, there!")]
    detail, hint = vocabulary(sample(rows))
    assert "it is lower case alone" in detail and "!" in detail
    assert hint == "set ctc.vocabulary=transcripts"
    assert vocabulary(sample(rows, has_new_vocabulary=True))[1] == ""  # it was asked for


def test_letters_that_only_validation_has_are_reported(sample: Callable[..., Any]) -> None:
    scored = {"data.validation": [Utterance("v", "v.wav", "straße, é"), Utterance("w", "w.wav", "große")]}
    detail, hint = vocabulary(sample(scored=scored))
    assert "data.validation has letters that are never learnt: ß (2 times), é (1 times)" in detail
    assert hint


def test_no_transcript_that_can_be_learnt_ends_the_check(sample: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="no transcript can be made a label, such as 'x': unknown_letters ж"):
        vocabulary(sample([], unlabelled=[Quarantined("x", "unknown_letters", "ж")]))


def test_labels_spell_their_transcripts(sample: Callable[..., Any]) -> None:
    assert spelling(sample())[0] == "'hello there' is learnt as 'hello there'"
    wrong = sample()
    wrong.labels[0][1].reverse()
    with pytest.raises(UserError, match="the symbols of 'hello there' spell 'ereht olleh'"):
        spelling(wrong)


def test_clips_too_short_for_their_labels_are_counted(sample: Callable[..., Any]) -> None:
    assert length(sample())[1] == ""
    short = [Quarantined("x", "label_needs_more_frames", "9 symbols need 9 positions, and 0.10 s have 4")]
    detail, hint = length(sample(unlabelled=short, max_quarantined_share=0.5))
    assert detail.startswith("1 of 3 transcripts have more symbols than their clips positions, such as 'x'")
    assert hint == "they go into quarantine"
    with pytest.raises(UserError, match="do they belong together"):
        length(sample(unlabelled=short))
