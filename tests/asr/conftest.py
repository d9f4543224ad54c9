"""Copies and variants of checkpoints, for what needs a checkpoint but no real weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import GenerationConfig

from asr.io import storage
from asr.models.checkpoint import Checkpoint, find_checkpoint
from tests.asr.tiny_whisper import MULTILINGUAL, random_whisper


@pytest.fixture(scope="session")
def base_checkpoint() -> Checkpoint:
    """A real multilingual checkpoint, for its vocabulary."""
    return find_checkpoint("builtin:base")


@pytest.fixture
def ct2_folder(ct2_original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(ct2_original, tmp_path / "ct2"))


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
