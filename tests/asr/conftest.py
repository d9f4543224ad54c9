"""A tiny random checkpoint in both layouts, for what needs a checkpoint but no real weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import GenerationConfig

from asr.io import storage
from asr.models.builtin.convert import convert
from asr.models.checkpoint import Checkpoint, find_checkpoint
from tests.asr.tiny_whisper import MULTILINGUAL, ct2_variables, random_whisper, write_ct2_folder


@pytest.fixture(scope="session")
def base_checkpoint() -> Checkpoint:
    """A real multilingual checkpoint, for its vocabulary."""
    return find_checkpoint("builtin:base")


@pytest.fixture(scope="session")
def ct2_original(tmp_path_factory: pytest.TempPathFactory, tiny_en_name: str) -> Path:
    """An English checkpoint of random float32 weights, not to be changed."""
    settings = {"alignment_heads": [[0, 1]], "suppress_ids": [1, 2], "suppress_ids_begin": [220, 50256]}
    tokenizer = find_checkpoint(tiny_en_name).folder / "tokenizer.json"
    folder = tmp_path_factory.mktemp("random") / "ct2"
    return write_ct2_folder(folder, tokenizer, json.dumps(settings), ct2_variables(random_whisper()))


@pytest.fixture
def ct2_folder(ct2_original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(ct2_original, tmp_path / "ct2"))


@pytest.fixture(scope="session")
def random_checkpoint(ct2_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in transformers' layout, not to be changed."""
    folder = tmp_path_factory.mktemp("random") / "transformers"
    convert(ct2_original, folder)
    return folder


@pytest.fixture(scope="session")
def random_multilingual(base_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network with a real vocabulary of 99 languages that stops after some tokens, not to be changed."""
    folder = tmp_path_factory.mktemp("random") / "multilingual"
    random_whisper(MULTILINGUAL).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copyfile(base_checkpoint.folder / name, folder / name)
    heads = {"max_length": 10, "alignment_heads": [[1, 0], [2, 3]]}
    GenerationConfig.from_pretrained(base_checkpoint.folder, **heads).save_pretrained(folder)
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("WHISPERFLEET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(random_checkpoint: Path, tmp_path: Path) -> Checkpoint:
    """A copy of it that a test may damage."""
    return Checkpoint("mine", Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint")), "sha256:0")


@pytest.fixture(params=["local", "s3", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new folder, on each kind of storage: pyarrow's two and fsspec's."""
    if request.param == "s3":
        return storage.join(request.getfixturevalue("s3"), tmp_path.name)
    return str(tmp_path / "root") if request.param == "local" else f"memory://{tmp_path.name}"
