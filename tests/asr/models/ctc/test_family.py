from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from asr.errors import UserError
from asr.models.abilities import require
from asr.models.artifact import merge_adapter
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.family import FAMILY
from asr.models.family import family_named, family_of, family_of_network, load_checkpoint
from asr.models.head import HeadSettings
from asr.models.training import FrozenPart
from asr.transcript import DecodingRequest
from tests.asr.models.ctc import tiny

Networks = Callable[[str], PreTrainedModel]


def trained(network: PreTrainedModel) -> set[str]:
    return {name for name, weight in network.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_the_family_follows_from_the_config_alone(name: str, tmp_path: Path) -> None:
    assert family_of(tiny.write_config(tmp_path, name)) is FAMILY


def test_a_network_is_of_the_family_with_an_adapter_or_without(network_of: Networks) -> None:
    network = network_of("wav2vec2-large-lv60")
    assert family_of_network(network) is FAMILY is family_named("ctc")
    assert family_of_network(get_peft_model(network, LoraConfig(target_modules=["q_proj"]))) is FAMILY


@pytest.mark.parametrize("part", ["nothing", "feature_encoder", "encoder"])
def test_a_full_fine_tune_trains_what_is_not_frozen(part: FrozenPart, network_of: Networks) -> None:
    network = network_of("wav2vec2-large-lv60")
    everything = trained(network)
    FAMILY.freeze(network, part)
    names = trained(network)
    assert {"lm_head.weight", "lm_head.bias"} <= names
    assert (names == {"lm_head.weight", "lm_head.bias"}) is (part == "encoder")
    front = {name for name in everything if ".feature_extractor." in name}
    assert bool(names & front) is (part == "nothing")


@pytest.mark.parametrize("name", ["parakeet-ctc-0.6b", "w2v-bert-2.0", "whisper-tiny"])
def test_a_frozen_encoder_leaves_the_head_to_train(name: str, network_of: Networks) -> None:
    network = network_of(name)
    FAMILY.freeze(network, "encoder")
    head = next(iter(trained(network))).split(".")[0]
    assert trained(network) == {f"{head}.weight", f"{head}.bias"}


def test_networks_of_spectrograms_have_no_convolutions_to_freeze(network_of: Networks) -> None:
    with pytest.raises(UserError, match="strategy=frozen_feature_encoder"):
        FAMILY.freeze(network_of("w2v-bert-2.0"), "feature_encoder")


def test_a_languages_adapter_is_trained_with_the_head_and_nothing_else(network_of: Networks) -> None:
    network = network_of("mms-1b-all")
    FAMILY.freeze(network, "all_but_language")
    names = trained(network)
    assert all("adapter_layer" in name or name.startswith("lm_head") for name in names)
    assert len(names) > 2
    with pytest.raises(UserError, match="has no adapters of languages"):
        FAMILY.freeze(network_of("wav2vec2-large-lv60"), "all_but_language")


def test_a_network_that_is_saved_and_loaded_again_says_the_same(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_checkpoint(Checkpoint("tiny", checkpoint("hubert-large-ls960-ft"), "sha256:1"))
    with torch.no_grad():
        model.network.lm_head.bias += torch.linspace(0, 3, len(model.network.lm_head.bias))
    model.network.save_pretrained(tmp_path)
    again = FAMILY.with_weights(
        load_checkpoint(Checkpoint("tiny", checkpoint("hubert-large-ls960-ft"), "sha256:1")), tmp_path
    )
    clip = DecodingRequest(model.features(np.random.default_rng(0).standard_normal(16000).astype(np.float32)))
    assert again.transcribe([clip], "short") == model.transcribe([clip], "short")


def test_what_only_a_decoder_can_do_is_refused_by_name() -> None:
    for ability, said in (
        ("translation", "cannot translate"),
        ("prompt", "reads no prompt"),
        ("temperature", "draws no words"),
    ):
        with pytest.raises(UserError, match=f"'model' is a CTC model.*{said}"):
            require("model", [ability], FAMILY.refusals(frozenset({"it"})))  # type: ignore[list-item]


def test_a_model_knows_the_language_that_it_was_trained_for(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("wav2vec2-base-960h")
    assert FAMILY.languages(load_checkpoint(Checkpoint("t", folder, "sha256:1", language="it"))) == {"it"}
    assert FAMILY.languages(load_checkpoint(Checkpoint("t", folder, "sha256:1"))) == frozenset()  # any


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "damaged", "wav2vec2-base-960h")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="'damaged' cannot be loaded as a CTC model"):
        load_checkpoint(Checkpoint("damaged", folder, "sha256:1"))


def test_a_language_model_is_for_those_who_ask_for_one(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = Checkpoint("t", checkpoint("wav2vec2-base-960h"), "sha256:1")
    processor = FAMILY.load_processor(base)
    FAMILY.write_language_model(tmp_path, processor, HeadSettings(language_model="none"), lambda: ["a b"])
    FAMILY.write_language_model(tmp_path, processor, HeadSettings(), None)
    assert not list(tmp_path.iterdir())
    FAMILY.write_language_model(tmp_path, processor, HeadSettings(), lambda: ["a b", "b a"])
    assert (tmp_path / "lm_words.arpa").is_file()


def test_decoding_goes_by_the_sound_alone_if_asked(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "with", "wav2vec2-base-960h")
    base = Checkpoint("t", folder, "sha256:1")
    FAMILY.write_language_model(folder, FAMILY.load_processor(base), HeadSettings(), lambda: ["a b", "b a"])
    model = load_checkpoint(base)
    assert model.processor.decoder.language_model is not None  # type: ignore[attr-defined]
    assert FAMILY.without_language_model(model).processor.decoder.language_model is None  # type: ignore[attr-defined]


def test_an_adapter_whose_head_is_of_another_vocabulary_is_one_line(
    network_of: Networks, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    adapted = get_peft_model(
        network_of("hubert-large-ls960-ft"), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    )
    adapted.save_pretrained(tmp_path / "adapter")
    other = tiny.write(tmp_path / "other", "hubert-large-ls960-ft", vocab_size=40)
    symbols = json.loads((other / "vocab.json").read_text())
    more = {f"{number}": number for number in range(len(symbols), 40)}
    (other / "vocab.json").write_text(json.dumps(symbols | more))
    model = load_checkpoint(Checkpoint("other", other, "sha256:1"))
    with pytest.raises(UserError, match="its adapter does not fit its network") as caught:
        merge_adapter(model, tmp_path / "adapter")
    assert len(str(caught.value).splitlines()) == 1
