from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.ctc.label_checks import length, spelling, vocabulary
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.manifests import write_beside
from tests.train.checks.doctored import subject

OWN = "wav2vec2-base-960h"  # letters of small case and an apostrophe


def said(clips: list[Utterance], *texts: str) -> list[Utterance]:
    return [
        replace(clip, id=str(number), text=text) for number, (clip, text) in enumerate(zip(clips, texts, strict=False))
    ]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "own", OWN)


def test_transcripts_of_another_case_than_a_published_vocabulary(
    own: Path, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    detail, hint = vocabulary(subject(tmp_path, own, said(english_clips, "HELLO, WORLD", "GOOD DAY")))
    assert "it is lower case alone, and so will be what is said" in detail
    assert "ctc.vocabulary=transcripts" in hint and "ctc.casing" in hint
    assert vocabulary(subject(tmp_path, own, said(english_clips, "hello world")))[1] == ""


def test_a_vocabulary_made_for_the_transcripts_in_the_case_that_was_asked_for_is_right(
    own: Path, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    rows = said(english_clips, "Hello, world", "Good day")
    detail, hint = vocabulary(subject(tmp_path, own, rows, "ctc.vocabulary=transcripts", "ctc.casing=upper"))
    assert "write 2 transcripts in upper case" in detail
    assert hint == ""


def test_letters_that_only_the_validation_set_has(own: Path, tmp_path: Path, english_clips: list[Utterance]) -> None:
    write_beside(tmp_path / "validation.jsonl", said(english_clips, "über", "over"))
    given = [f"data.validation={tmp_path / 'validation.jsonl'}"]
    detail, _ = vocabulary(subject(tmp_path, own, said(english_clips, "over"), *given))
    assert "data.validation" in detail and "ü" in detail


def test_a_validation_set_in_other_letters_passed_and_training_refused_it(
    own: Path, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    write_beside(tmp_path / "validation.jsonl", said(english_clips, "über", "für", "over"))
    given = [f"data.validation={tmp_path / 'validation.jsonl'}"]
    with pytest.raises(
        UserError, match=r"^data\.validation: 2 of 3 transcripts have letters that the vocabulary lacks"
    ):
        vocabulary(subject(tmp_path, own, said(english_clips, "over"), *given))


def test_letters_that_the_vocabulary_lacks_are_named_and_few_are_a_warning(
    own: Path, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    rows = said(english_clips, "über", "over", "under")
    detail, hint = vocabulary(subject(tmp_path, own, rows, "data.max_quarantined_share=0.5"))
    assert detail.startswith("1 of 3 transcripts have letters that the vocabulary lacks, such as '0': ü")
    assert "ctc.vocabulary=transcripts" in hint
    with pytest.raises(UserError, match="1 of 3 transcripts have letters that the vocabulary lacks"):
        vocabulary(subject(tmp_path, own, rows, "data.max_quarantined_share=0.1"))


def test_no_transcript_at_all_can_be_written(own: Path, tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, own, said(english_clips, "привет"), "data.max_quarantined_share=1")
    with pytest.raises(UserError, match="no transcript can be made a label, such as '0': unknown_letters"):
        vocabulary(checked)
    assert length(checked)[1] == ""


def test_clips_too_short_for_their_labels(own: Path, tmp_path: Path, english_clips: list[Utterance]) -> None:
    rows = said(english_clips, "a " * 2000, "over", "under")
    detail, hint = length(subject(tmp_path, own, rows, "data.max_quarantined_share=0.5"))
    assert "1 of 3 transcripts have more symbols than their clips positions, such as '0'" in detail
    assert hint == "they go into quarantine"
    with pytest.raises(UserError, match="more symbols than their clips positions"):
        length(subject(tmp_path, own, rows, "data.max_quarantined_share=0.1"))


def test_labels_spell_the_transcripts(own: Path, tmp_path: Path, english_clips: list[Utterance]) -> None:
    assert spelling(subject(tmp_path, own, said(english_clips, "Hello, world!"))) == (
        "'Hello, world!' is learnt as 'hello world'",
        "",
    )


def test_a_vocabulary_that_is_not_the_heads(own: Path, tmp_path: Path, english_clips: list[Utterance]) -> None:
    symbols = json.loads((own / "vocab.json").read_text())
    (own / "vocab.json").write_text(json.dumps(symbols | {"é": len(symbols)}))
    with pytest.raises(UserError, match="the head has 32 outputs, and the vocabulary 33 symbols"):
        vocabulary(subject(tmp_path, own, said(english_clips, "over")))
