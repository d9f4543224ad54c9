from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.ctc.new_head import new_head
from asr.models.head import HeadSettings

TEXTS = ["Due più due.", "Sì! No?"]


def made(base: Checkpoint, language: str | None = "it", **settings: object) -> dict[str, bytes]:
    return dict(new_head(base, HeadSettings.model_validate(settings), language, lambda: TEXTS))


def whisper() -> Checkpoint:
    return find_checkpoint("builtin:tiny.en")


@pytest.mark.weights
def test_whispers_encoder_gets_a_head_for_the_characters_of_the_transcripts() -> None:
    files = made(whisper(), casing="lower", punctuation="drop")
    symbols = json.loads(files["vocab.json"])
    assert "".join(sorted(symbols, key=symbols.__getitem__)[3:]) == "deinopsuìù"
    config = json.loads(files["config.json"])
    assert (config["model_type"], config["architectures"]) == ("whisper_ctc", ["WhisperForCTC"])
    assert (config["vocab_size"], config["pad_token_id"]) == (len(symbols), symbols["<pad>"])
    assert files == made(whisper(), casing="lower", punctuation="drop")
    assert files["preprocessor_config.json"] == (whisper().folder / "preprocessor_config.json").read_bytes()


@pytest.mark.weights
def test_casing_and_punctuation_are_kept_unless_they_are_dropped() -> None:
    assert {"D", ".", "?", "ì"} <= set(json.loads(made(whisper())["vocab.json"]))


@pytest.mark.weights
def test_subwords_are_pieces_of_words() -> None:
    files = made(whisper(), unit="subword", subwords=50)
    assert "vocab.json" not in files
    assert "▁" in json.loads(files["tokenizer.json"])["model"]["vocab"]


def test_a_ctc_checkpoint_keeps_its_own_vocabulary_unless_it_is_told(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("wav2vec2-base-960h")
    base = Checkpoint("own", folder, "sha256:1")
    assert made(base) == {}
    files = made(base, vocabulary="transcripts")
    config = json.loads(files["config.json"])
    assert config["model_type"] == "wav2vec2"
    assert config["vocab_size"] == len(json.loads(files["vocab.json"]))


def test_a_checkpoint_for_many_languages_gets_the_vocabulary_of_one(checkpoint: Callable[[str], Path]) -> None:
    base = Checkpoint("mms", checkpoint("mms-1b-all"), "sha256:1")
    files = made(base, target_language="deu")
    assert "ß" in json.loads(files["vocab.json"])
    assert json.loads(files["config.json"])["language_adapter"] == "deu"
    with pytest.raises(UserError, match=r"no adapter and vocabulary of 'dxu' .*deu"):
        made(base, target_language="dxu")


@pytest.mark.weights
def test_whisper_has_no_vocabulary_to_keep() -> None:
    with pytest.raises(UserError, match="no vocabulary and no CTC head"):
        made(whisper(), vocabulary="checkpoint")
    with pytest.raises(UserError, match=r"ctc\.target_language"):
        made(whisper(), target_language="ita")
