from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2ForCTC

from asr.models.ctc.language_adapters import adapter_languages, adapter_parameters, load_language
from asr.models.ctc.network import load
from tests.asr.models.ctc import tiny

Checkpoint = Callable[[str], Path]
MMS = "mms-1b-all"


def test_languages_are_listed(checkpoint: Checkpoint) -> None:
    assert adapter_languages(checkpoint(MMS)) == ["deu", "eng"]
    assert adapter_languages(checkpoint("wav2vec2-large-lv60")) == []


def test_a_language_needs_both_its_files(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "mms"
    shutil.copytree(checkpoint(MMS), folder)
    (folder / "adapter.fra.safetensors").touch()
    vocabulary = json.loads((folder / "vocab.json").read_text()) | {"ita": {"a": 0}, "x": 3}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    assert adapter_languages(folder) == ["deu", "eng"]
    (folder / "vocab.json").write_text("[")
    assert adapter_languages(folder) == []
    (folder / "vocab.json").write_text("[1]")
    assert adapter_languages(folder) == []


@pytest.mark.parametrize("language", ["eng", "deu"])
def test_a_language_is_loaded_as_transformers_does(checkpoint: Checkpoint, language: str) -> None:
    folder = checkpoint(MMS)
    theirs = Wav2Vec2ForCTC.from_pretrained(
        folder, target_lang=language, ignore_mismatched_sizes=True, local_files_only=True
    ).eval()
    network = load(folder, folder)
    load_language(network, folder, language)
    values = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        said = network(values).logits
        assert said.shape[-1] == len(tiny.LANGUAGES[language]) == network.config.vocab_size
        assert torch.equal(said, theirs(values).logits)


@pytest.mark.parametrize("language", ["fra", "../eng", ""])
def test_another_language_is_refused(checkpoint: Checkpoint, language: str) -> None:
    network = load(checkpoint(MMS), checkpoint(MMS))
    with pytest.raises(ValueError, match="it has no adapter of"):
        load_language(network, checkpoint(MMS), language)


def test_the_weights_of_a_language_are_those_of_its_file(checkpoint: Checkpoint) -> None:
    network = load(checkpoint(MMS), checkpoint(MMS))
    found = adapter_parameters(network)
    assert found.keys() == load_file(checkpoint(MMS) / "adapter.eng.safetensors").keys()
    assert all(dict(network.named_parameters())[name] is weight for name, weight in found.items())


@pytest.mark.parametrize("name", ["wav2vec2-large-lv60", "hubert-large-ls960-ft", "parakeet-ctc-0.6b"])
def test_other_networks_have_none(checkpoint: Checkpoint, name: str) -> None:
    assert adapter_parameters(load(checkpoint(name), checkpoint(name))) == {}
