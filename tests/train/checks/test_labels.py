from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.utterance import Utterance
from tests.train.checks.doctored import italian, subject, tiny_checkpoint
from train.checks.labels import base, generation, language, length, order, start


@pytest.mark.medium
def test_a_good_base_passes_every_step(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    checked = subject(tmp_path, checkpoint, italian(english_clips), "language=it")
    outcomes = [step(checked) for step in (base, language, start, order, length, generation)]
    assert [outcome.state for outcome in outcomes] == ["ok"] * 6
    assert "multilingual" in outcomes[0].detail
    assert outcomes[1].detail == "it (4), task transcribe"
    assert outcomes[3].detail == "<|startoftranscript|> <|it|> <|transcribe|> <|notimestamps|> text <|endoftext|>"


def test_a_base_that_is_not_there(tmp_path: Path, english_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match="no checkpoint 'builtin:bass'"):
        base(subject(tmp_path, "builtin:bass", english_clips[:2]))


@pytest.mark.medium
def test_a_row_in_a_language_without_a_token(tmp_path: Path, english_clips: list[Utterance]) -> None:
    rows = [english_clips[0], replace(english_clips[1], language="it")]
    with pytest.raises(UserError, match="English only, not 'it'"):
        language(subject(tmp_path, "builtin:tiny.en", rows))


@pytest.mark.medium
@pytest.mark.parametrize("settings", [["head=ctc", "ctc.casing=lower"], ["head=ctc", "ctc.unit=subword"]])
def test_a_ctc_head_on_a_good_base_passes_every_step(
    settings: list[str], tmp_path: Path, english_clips: list[Utterance]
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    checked = subject(tmp_path, checkpoint, italian(english_clips), "language=it", *settings)
    outcomes = [step(checked) for step in (base, language, start, order, length, generation)]
    assert [outcome.state for outcome in outcomes] == ["ok"] * 6
    assert "CTC (whisper_ctc)" in outcomes[0].detail
    assert "is learnt as" in outcomes[3].detail
    assert "by n-grams of the training transcripts: ctc.language_weight=0.7" in outcomes[5].detail
