from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asr.errors import UserError
from asr.io.digest import sha256
from asr.models.builtin import convert
from asr.models.checkpoint import builtin_names, find_checkpoint, hub_id, require


def transformers_folder(folder: Path, *weights: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for number, name in enumerate(weights):
        save_file({"a": torch.full((2,), float(number))}, folder / name)
    return folder


def test_a_builtin_is_known_by_the_digest_of_what_was_published(tiny_en_name: str) -> None:
    checkpoint = find_checkpoint("builtin:tiny.en")
    assert checkpoint.name == "builtin:tiny.en"
    assert checkpoint.digest == "sha256:1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    assert (checkpoint.folder / "model.safetensors").is_file()


def test_a_builtin_has_a_name_that_other_software_knows() -> None:
    assert hub_id("builtin:base") == "openai/whisper-base"
    assert hub_id("openai/whisper-small") == "openai/whisper-small"
    assert hub_id("runs/x/model") == "runs/x/model"


def test_a_local_folder_is_used_where_it_is(tmp_path: Path, own_cache: Path) -> None:
    folder = transformers_folder(tmp_path / "mine", "model.safetensors")
    checkpoint = find_checkpoint(str(folder))
    assert (checkpoint.name, checkpoint.folder) == (str(folder), folder)
    assert checkpoint.digest == f"sha256:{sha256(folder / 'model.safetensors')}"
    assert not own_cache.exists()


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = transformers_folder(tmp_path / "mine", "model.safetensors")
    assert find_checkpoint("~/mine").folder == folder


def test_shards_have_one_digest_of_their_contents(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = transformers_folder(tmp_path / "shards", *names)
    both = "".join(sha256(folder / name) for name in names)
    assert find_checkpoint(str(folder)).digest == f"sha256:{hashlib.sha256(both.encode()).hexdigest()}"


def test_copies_that_transformers_does_not_read_do_not_count(tmp_path: Path) -> None:
    """openai/whisper-large-v3 keeps 6 GB of model.fp32-*.safetensors beside the weights."""
    plain = transformers_folder(tmp_path / "plain", "model.safetensors")
    both = transformers_folder(tmp_path / "both", "model.safetensors", "model.fp32-00001-of-00001.safetensors")
    assert find_checkpoint(str(plain)).digest == find_checkpoint(str(both)).digest


def test_a_ctranslate2_folder_is_converted_once(
    ct2_folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_checkpoint(str(ct2_folder))
    assert first.digest == f"sha256:{sha256(ct2_folder / 'model.bin')}"
    assert first.folder.is_relative_to(own_cache)
    monkeypatch.delattr(convert, "convert")  # a second conversion would fail
    assert find_checkpoint(str(ct2_folder)) == first


def test_a_failed_conversion_leaves_nothing(ct2_folder: Path, own_cache: Path) -> None:
    (ct2_folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        find_checkpoint(str(ct2_folder))
    assert list((own_cache / "checkpoints").iterdir()) == []


def test_a_changed_file_in_the_cache_is_named(ct2_folder: Path, own_cache: Path) -> None:
    folder = find_checkpoint(str(ct2_folder)).folder
    names = {path.name for path in folder.iterdir()} - {"source.json"}
    assert len(names) == 6
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name}: digest .*delete {folder} and run again"):
            find_checkpoint(str(ct2_folder))
        (folder / name).write_bytes(content)


def test_a_converted_folder_without_its_record_is_incomplete(ct2_folder: Path, own_cache: Path) -> None:
    record = find_checkpoint(str(ct2_folder)).folder / "source.json"
    for content in ("{", "{}", "[]", '{"files": 3, "source_sha256": ""}', None):
        record.unlink() if content is None else record.write_text(content)
        with pytest.raises(UserError, match=r"incomplete checkpoint, without a readable source\.json"):
            find_checkpoint(str(ct2_folder))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("builtin:tiny", "the builtin ones are builtin:base, builtin:tiny.en"),
        ("tiny.en", "one of builtin:base"),
        ("/nowhere/at/all", "one of builtin:base"),
        ("a/b/c", "one of builtin:base"),
    ],
)
def test_an_unknown_name_says_what_there_is(own_cache: Path, name: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        find_checkpoint(name)
    assert caught.value.message == f"no checkpoint '{name}'"
    assert part in caught.value.hint
    assert not own_cache.exists()


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        find_checkpoint(str(tmp_path))


def test_pickled_weights_are_no_checkpoint(tmp_path: Path) -> None:
    (transformers_folder(tmp_path / "old") / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        find_checkpoint(str(tmp_path / "old"))


@pytest.mark.medium
@pytest.mark.parametrize(("name", "said"), [("openai/whisper-nano", "cannot be reached"), ("a/b..c", "its name right")])
def test_a_hub_id_that_cannot_be_fetched(tmp_path: Path, name: str, said: str) -> None:
    code = (
        "import sys\nfrom asr.models.checkpoint import find_checkpoint\nfrom asr.errors import UserError\n"
        "try:\n    find_checkpoint(sys.argv[1])\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said in done.stdout, done
    assert name in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_builtin_names() -> None:
    assert builtin_names() == ["builtin:base", "builtin:tiny.en"]


@pytest.mark.parametrize("name", ["builtin:base", "openai/whisper-tiny", "s3://bucket/a model", "here", "./here", "~"])
def test_what_may_be_there_is_not_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    require(name)


def test_a_folder_that_is_called_like_a_builtin_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "builtin:mine").mkdir()
    monkeypatch.chdir(tmp_path)
    require("builtin:mine")


@pytest.mark.parametrize("name", ["", "builtin:large", "no-such-folder", "./a/b", "~nobody-here/a", "a file"])
def test_what_cannot_be_there_is_one_line_before_anything_is_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        require(name)
