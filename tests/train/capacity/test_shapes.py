"""Which network a name stands for, and whether a formula or the network itself tells what it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import WhisperConfig

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.head import HeadSettings
from asr.models.whisper.shapes import SIZES, NetworkShape
from tests.asr.models.ctc import tiny
from tests.asr.models.test_export import write_artifact
from train.capacity.fake_step import FakeNetwork
from train.capacity.shapes import ALPHABET, shape_of


def test_a_builtin_checkpoint_has_the_size_of_the_hubs() -> None:
    assert shape_of("builtin:base") == SIZES["openai/whisper-base"]
    assert shape_of("builtin:tiny.en").vocabulary == 51864


def test_a_local_checkpoint_tells_its_size_itself(tmp_path: Path) -> None:
    config = WhisperConfig(
        d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24
    )
    config.save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == NetworkShape(80, 16, 2, 3, 2, 24, 51865)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not tell the size"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("size", ["Infinity", "-4", "0", "[]", "[" * 100_000])
def test_a_damaged_config_is_one_line(tmp_path: Path, size: str) -> None:
    WhisperConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(re.sub(r'"d_model": \d+', f'"d_model": {size}', path.read_text()))
    with pytest.raises(UserError, match="does not tell the size of a Whisper"):
        shape_of(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UserError, match="did you mean 'openai/whisper-large-v3'"):
        shape_of("openai/whisper-largev3")


@pytest.mark.medium
def test_an_artifact_has_the_shape_of_what_it_goes_back_to(tmp_path: Path) -> None:
    parent = write_artifact(tmp_path / "parent", "builtin:tiny.en")
    assert shape_of(str(parent)) == SIZES["openai/whisper-tiny.en"]


@pytest.mark.usefixtures("no_formula")
def test_without_a_formula_the_network_itself_is_asked(random_checkpoint: Path) -> None:
    assert shape_of(str(random_checkpoint)) == FakeNetwork(random_checkpoint)


@pytest.mark.usefixtures("no_formula")
def test_without_a_formula_a_checkpoint_that_is_here_is_found_by_name(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.capacity.shapes.missing", lambda name: "")
    found = Checkpoint("builtin:tiny.en", random_checkpoint, "sha256:0")
    monkeypatch.setattr("train.capacity.shapes.find_checkpoint", lambda name: found)
    assert shape_of("builtin:tiny.en") == FakeNetwork(random_checkpoint)


@pytest.mark.usefixtures("no_formula")
def test_without_a_formula_nothing_is_fetched() -> None:
    with pytest.raises(UserError, match="its size is not known"):
        shape_of("openai/whisper-large-v3")


def test_a_new_head_on_a_published_whisper_is_planned_by_its_name() -> None:
    network = shape_of("openai/whisper-tiny.en", "ctc", HeadSettings())
    whole = SIZES["openai/whisper-tiny.en"]
    symbols = ALPHABET + 3  # blank, unknown, the delimiter
    assert network.parameters == whole.encoder_parameters + symbols * (whole.width + 1)
    assert shape_of("builtin:tiny.en", "ctc", HeadSettings()).parameters == network.parameters
    many = shape_of("openai/whisper-tiny.en", "ctc", HeadSettings(unit="subword", subwords=500))
    assert many.parameters > network.parameters


def test_a_ctc_checkpoint_is_planned_with_the_head_that_it_has(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "wav2vec2-base-960h")
    (folder / "model.safetensors").unlink()
    assert shape_of(str(folder), None, HeadSettings()) == FakeNetwork(folder)
    anew = shape_of(str(folder), None, HeadSettings(vocabulary="transcripts"))
    assert anew.parameters - FakeNetwork(folder).parameters == (ALPHABET + 3 - len(tiny.SYMBOLS)) * (16 + 1)


def test_a_network_without_a_head_gets_one(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "w2v-bert-2.0", architectures=["Wav2Vec2BertModel"])
    (folder / "vocab.json").unlink()
    assert shape_of(str(folder), None, HeadSettings()).parameters > 0
    assert shape_of(str(folder), "ctc", HeadSettings()).parameters > 0
