from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from peft import LoraConfig

from asr.errors import UserError
from asr.models.artifact import complete
from asr.models.checkpoint import find_checkpoint
from tests.asr.models.test_artifact import card, write_adapter
from train.evaluation.candidate import candidates


@pytest.fixture
def copy(small_base: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_base, tmp_path / "copy"))


def test_a_model_is_known_by_its_weights_and_by_what_it_is_decoded_with(small_base: str, copy: Path) -> None:
    one, same, other = candidates([small_base, small_base, str(copy)], "short")
    assert one is same and (one.name, one.context, one.language) == (small_base, "short", None)
    assert one.processor.window_s == 30.0
    assert other.identity == one.identity
    (copy / "generation_config.json").write_text("{}")
    assert candidates([str(copy)], None)[0].identity != one.identity


@pytest.mark.medium
def test_artifacts_of_one_base_had_one_digest(small_base: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, step in zip(folders, (1, 2), strict=True):
        write_adapter(folder, small_base)
        complete(folder, card(small_base, training={"step": step}))
    base, one, other = candidates([small_base, *map(str, folders)], None)
    assert len({base.digest, one.digest, other.digest}) == 3
    assert one.digest == f"sha256:{one.identity}"
    assert base.digest == find_checkpoint(small_base).digest


def test_weights_that_end_too_soon_are_found_before_anything_is_decoded(small_base: str, copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=rf"{copy}/model\.safetensors: damaged or not complete"):
        candidates([small_base, str(copy)], None)


def test_a_model_that_cannot_be_had_is_named(small_base: str, copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=str(copy)):
        candidates([small_base, str(copy)], None)


def test_an_adapter_that_ends_too_soon_is_found_before_anything_is_decoded(small_base: str, tmp_path: Path) -> None:
    LoraConfig(r=4, target_modules=["q_proj"]).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    complete(tmp_path, card(small_base))
    with pytest.raises(UserError, match=rf"{tmp_path}/adapter_model\.safetensors: damaged or not complete"):
        candidates([small_base, str(tmp_path)], None)
