from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.utterance import Utterance
from tests.train.checks.doctored import subject, tiny_checkpoint
from train.checks.labels import base, generation, language, length, order, start


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A multilingual checkpoint to be spoilt."""
    return tiny_checkpoint(tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of which only the generation config is spoilt, for one test at a time: its tokenizer is kept."""
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def italian(clips: list[Utterance], *texts: str) -> list[Utterance]:
    given = texts or ("Premere il tasto cancelletto", "La casella vocale è piena")
    return [replace(clip, text=given[i % len(given)], language="it") for i, clip in enumerate(clips[:4])]


def suppress(content: dict[str, Any], token: int) -> None:
    content["suppress_tokens"].append(token)


@pytest.mark.medium
def test_a_good_base_passes_every_step(tmp_path: Path, tiny: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, tiny, italian(english_clips), "language=it")
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
