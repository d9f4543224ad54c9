from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.io.digest import folder_digests
from asr.models.artifact import complete
from asr.models.export import Export, export
from serve.models.artifact_info import fingerprint, inspect, weights_bytes
from tests.asr.models.test_artifact import card, write_adapter


@pytest.fixture
def artifact(tmp_path: Path, tiny_en_name: str) -> Path:
    """A sealed adapter for the real checkpoint."""
    folder = tmp_path / "artifact"
    write_adapter(folder, tiny_en_name)
    complete(folder, card(tiny_en_name))
    return folder


def test_an_artifact_is_verified_and_told_of(artifact: Path, tiny_en_name: str) -> None:
    found = inspect(str(artifact))
    assert found.version.artifact == str(artifact) and len(found.version.fingerprint) == 12
    assert found.summary == f"an adapter for {tiny_en_name}, en, no WER on its card"
    assert 0 < weights_bytes(str(artifact), with_base=False) < 10_000_000
    assert weights_bytes(str(artifact)) > weights_bytes(tiny_en_name)


def test_files_that_were_changed_are_named(artifact: Path) -> None:
    path = artifact / "adapter_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: digest"):
        inspect(str(artifact))


def test_what_is_trained_anew_at_the_same_place_has_another_fingerprint(artifact: Path, tiny_en_name: str) -> None:
    before = fingerprint(str(artifact))
    assert fingerprint(str(artifact)) == before
    complete(artifact, card(tiny_en_name, training={"step": 2}))
    assert fingerprint(str(artifact)) != before


def test_a_checkpoint_has_its_weights_digest(tiny_en_name: str) -> None:
    found = inspect(tiny_en_name)
    assert found.summary.startswith("a checkpoint without a card, sha256:")
    assert found.summary.endswith(found.version.fingerprint)
    assert weights_bytes(tiny_en_name) > 50_000_000


def test_an_export_is_verified_by_its_record(tmp_path: Path, tiny_en_name: str) -> None:
    folder = tmp_path / "int8"
    export(tiny_en_name, folder, "ctranslate2")
    found = inspect(str(folder))
    assert found.summary == f"an export for CTranslate2 of {tiny_en_name}, int8"
    assert weights_bytes(str(folder)) > 20_000_000
    (folder / "export.json").unlink()
    assert inspect(str(folder)).version.fingerprint != found.version.fingerprint


def test_an_export_for_onnx_runtime_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    record = Export(name="letters", digest="sha256:1", quantization="int8", card=None, files=folder_digests(tmp_path))
    (tmp_path / "export.json").write_text(record.model_dump_json())
    assert inspect(str(tmp_path)).summary == "an export for ONNX Runtime of letters, int8"
    assert weights_bytes(str(tmp_path)) == len(b"graphweights")
    (tmp_path / "model.onnx.data").write_bytes(b"others")
    with pytest.raises(UserError, match=r"model\.onnx\.data: digest"):
        inspect(str(tmp_path))


@pytest.mark.parametrize("name", ["/nowhere/artifact", "builtin:nothing"])
def test_what_is_not_there_is_a_persons_mistake(name: str) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        inspect(name)


@pytest.mark.parametrize("name", ["x" * 5000, "z\n" * 2000])
def test_a_place_that_cannot_be_is_a_persons_mistake_told_in_a_short_line(name: str) -> None:
    with pytest.raises(UserError) as raised:
        inspect(name)
    assert len(str(raised.value)) < 300 and "\n" not in str(raised.value)
