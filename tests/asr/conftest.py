"""A tiny random checkpoint in CTranslate2's format, for what needs a checkpoint but no real weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.checkpoint import Checkpoint, find_checkpoint
from tests.asr.tiny_whisper import ct2_variables, random_whisper, write_ct2_folder


@pytest.fixture(scope="session")
def base_checkpoint() -> Checkpoint:
    """A real multilingual checkpoint, for its vocabulary."""
    return find_checkpoint("builtin:base")


@pytest.fixture(scope="session")
def english_settings() -> str:
    return json.dumps({"alignment_heads": [[0, 1]], "suppress_ids": [1, 2], "suppress_ids_begin": [220, 50256]})


@pytest.fixture
def ct2_folder(tmp_path: Path, tiny_en_name: str, english_settings: str) -> Path:
    """An English checkpoint of random float32 weights."""
    tokenizer = find_checkpoint(tiny_en_name).folder / "tokenizer.json"
    return write_ct2_folder(tmp_path / "ct2", tokenizer, english_settings, ct2_variables(random_whisper()))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("WHISPERFLEET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
