from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, WhisperForConditionalGeneration, pipeline

from asr.audio.decode import SAMPLE_RATE
from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.models.artifact import BaseModel, Card, complete, load_model, verified_card
from asr.models.builtin.ct2_reader import read_variables, state_dict
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.export import RECORD, engine_of_export, export, exported, read_export
from asr.models.export_formats import Format
from asr.models.whisper.loading import load_checkpoint
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.asr.tiny_whisper import ENGLISH, MULTILINGUAL, logits, random_whisper


def write_artifact(
    folder: Path, base: str, seed: int = 5, std: float = 0.2, short_context: bool = True, **lora: Any
) -> Path:
    """An artifact as training leaves it: an adapter with effect, by default one for a base of random weights."""
    checkpoint = find_checkpoint(base)
    network = load_checkpoint(checkpoint).network
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj", "fc1", "fc2"]} | lora
    adapted = get_peft_model(network, LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=std)
    adapted.save_pretrained(folder)
    GenerationConfig.from_pretrained(checkpoint.folder, max_length=77).save_pretrained(folder)
    card = Card(
        weights="adapter",
        base=BaseModel(name=base, digest=checkpoint.digest),
        language="en",
        task="transcribe",
        short_context=short_context,
        normaliser="normalised",
        data={"clips": 3},
        config={"base": base},
        training={"step": 1},
        versions={"torch": "2"},
        created="2026-01-01T00:00:00+00:00",
    )
    complete(folder, card)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Path:
    return write_artifact(tmp_path_factory.mktemp("written") / "artifact", str(random_checkpoint))


@pytest.fixture
def artifact(tmp_path: Path, written: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "artifact"))


def test_transformers_alone_loads_the_merged_weights(artifact: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(artifact), tmp_path / "out", "transformers")
    network = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    merged = load_model(str(artifact)).network
    assert torch.equal(logits(network), logits(merged))
    assert not torch.allclose(logits(network), logits(load_model(str(random_checkpoint)).network), atol=0.1)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["architectures"] == ["WhisperForConditionalGeneration"]
    assert network.generation_config.max_length == 77, "the artifact's, not its base's"


def test_an_exported_artifact_is_one_itself(artifact: Path, tmp_path: Path) -> None:
    export(str(artifact), tmp_path / "out", "transformers")
    card = verified_card(tmp_path / "out")
    assert (card.weights, card.language, card.short_context) == ("full", "en", True)
    shutil.rmtree(artifact)
    assert load_model(str(tmp_path / "out")).context == "short", "it needs no other folder"


def test_half_of_the_size_in_float16(artifact: Path, tmp_path: Path) -> None:
    sizes = {}
    for quantization in ("float32", "float16"):
        export(str(artifact), tmp_path / quantization, "transformers", quantization)  # type: ignore[arg-type]
        sizes[quantization] = (tmp_path / quantization / "model.safetensors").stat().st_size
    assert sizes["float16"] < 0.6 * sizes["float32"]
    network = WhisperForConditionalGeneration.from_pretrained(tmp_path / "float16", dtype="auto")
    assert network.dtype == torch.float16


@pytest.mark.slow
def test_a_plain_pipeline_hears_what_we_hear(tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path) -> None:
    export(tiny_en_name, tmp_path / "out", "transformers")
    waveform = decode_audio(Path(str(english_clips[0].audio)))
    heard = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))(
        {"raw": waveform, "sampling_rate": SAMPLE_RATE}
    )
    model = load_model(tiny_en_name)
    [expected] = decode(model, [DecodingRequest(model.features(waveform))], "full")
    assert heard["text"].strip() == expected.text


def test_every_weight_comes_back_from_ctranslate2(artifact: Path, tmp_path: Path) -> None:
    export(str(artifact), tmp_path / "out", "ctranslate2", "float32")
    found = state_dict(read_variables(tmp_path / "out" / "model.bin"))
    merged = load_model(str(artifact)).network.state_dict()
    assert found.keys() == merged.keys()
    for name, weight in merged.items():
        assert torch.equal(found[name], weight), name


def test_the_folder_for_ctranslate2_holds_what_its_users_read(artifact: Path, tmp_path: Path) -> None:
    export(str(artifact), tmp_path / "out", "ctranslate2")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.bin",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocabulary.json",
    }
    generation = GenerationConfig.from_pretrained(artifact)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["alignment_heads"] == generation.alignment_heads
    assert settings["suppress_ids"] == generation.suppress_tokens
    assert settings["suppress_ids_begin"] == generation.begin_suppress_tokens
    vocabulary = json.loads((tmp_path / "out" / "vocabulary.json").read_text())
    assert (len(vocabulary), vocabulary[-1]) == (ENGLISH, "<|30.00|>")
    assert engine_of_export(str(tmp_path / "out")) == "ctranslate2" and engine_of_export(str(artifact)) is None


def test_what_serving_must_know_travels_along(artifact: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(artifact), tmp_path / "out", "ctranslate2")
    record = read_export(tmp_path / "out")
    assert record is not None and record.card is not None
    assert (record.name, record.quantization) == (str(artifact), "int8")
    assert (record.card.language, record.card.short_context) == ("en", True)
    export(str(random_checkpoint), tmp_path / "plain", "ctranslate2")
    plain = read_export(tmp_path / "plain")
    assert plain is not None and plain.card is None
    assert plain.digest != record.digest


def test_the_languages_of_a_multilingual_checkpoint_are_named(base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    random_whisper(MULTILINGUAL).save_pretrained(tmp_path / "random")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"):
        shutil.copyfile(base_checkpoint.folder / name, tmp_path / "random" / name)
    export(str(tmp_path / "random"), tmp_path / "out", "ctranslate2")
    languages = GenerationConfig.from_pretrained(base_checkpoint.folder).lang_to_id.values()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["lang_ids"] == sorted(languages)
    vocabulary = json.loads((tmp_path / "out" / "vocabulary.json").read_text())
    assert {vocabulary[i] for i in languages} >= {"<|it|>", "<|en|>"}


def test_the_cache_keeps_an_export_until_the_artifact_changes(
    artifact: Path, random_checkpoint: Path, own_cache: Path
) -> None:
    first = exported(str(artifact), "float32")
    written = (first / "model.bin").stat().st_mtime_ns
    assert exported(str(artifact), "float32") == first
    assert (first / "model.bin").stat().st_mtime_ns == written
    assert exported(str(artifact), "int8") != first
    shutil.rmtree(artifact)
    write_artifact(artifact, str(random_checkpoint), seed=6)
    assert exported(str(artifact), "float32") != first


def test_an_export_for_nobody_goes_where_another_is_made(artifact: Path, own_cache: Path) -> None:
    forgotten = own_cache / "exports" / "0123456789abcdef-int8-v1"
    forgotten.mkdir(parents=True)
    os.utime(forgotten, (0, 0))
    made = exported(str(artifact), "float32")
    assert [path for path in forgotten.parent.iterdir() if path.is_dir()] == [made]
    assert read_export(made) is not None, "the mark of its use is no part of it"


def test_a_changed_setting_of_a_checkpoint_is_another_export(
    random_checkpoint: Path, tmp_path: Path, own_cache: Path
) -> None:
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "copy"))
    first = exported(str(folder), "int8")
    GenerationConfig.from_pretrained(folder, suppress_tokens=[1, 2, 3]).save_pretrained(folder)
    second = exported(str(folder), "int8")
    assert first != second
    assert json.loads((second / "config.json").read_text())["suppress_ids"] == [1, 2, 3]


def test_a_damaged_export_is_named(random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(random_checkpoint), tmp_path / "out", "ctranslate2")
    (tmp_path / "out" / "vocabulary.json").write_text("[]")
    with pytest.raises(UserError, match=r"vocabulary\.json: digest"):
        read_export(tmp_path / "out")
    (tmp_path / "out" / RECORD).write_text("{}")
    with pytest.raises(UserError, match=r"export\.json"):
        read_export(tmp_path / "out")


@pytest.mark.parametrize("existing", ["file", "folder"])
def test_nothing_is_written_over(random_checkpoint: Path, tmp_path: Path, existing: str) -> None:
    out = tmp_path / "out"
    if existing == "folder":
        out.mkdir()
    kept = out / "kept" if existing == "folder" else out
    kept.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export(str(random_checkpoint), out, "ctranslate2")
    assert kept.read_text() == "mine"


def test_nothing_is_left_of_an_export_that_fails(artifact: Path, tmp_path: Path) -> None:
    (artifact / "adapter_model.safetensors").write_bytes(b"damaged")
    for form in ("transformers", "ctranslate2"):
        with pytest.raises(UserError, match="adapter_model"):
            export(str(artifact), tmp_path / "under" / "out", form)  # type: ignore[arg-type]
    assert list((tmp_path / "under").iterdir()) == []


def test_int8_is_not_for_transformers(random_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantization=int8 is not for transformers"):
        export(str(random_checkpoint), tmp_path / "out", "transformers", "int8")


@pytest.mark.parametrize(("kind", "form"), [("whisper", "onnx"), ("ctc", "ctranslate2")])
def test_another_familys_format_is_refused_before_weights_are_read(
    kind: str, form: Format, random_checkpoint: Path, tmp_path: Path
) -> None:
    folder = random_checkpoint if kind == "whisper" else tiny.write(tmp_path / "ctc", "whisper-tiny")
    with pytest.raises(UserError, match=f"is of the family {kind}, which is not exported for {form}") as raised:
        export(str(folder), tmp_path / "out", form)
    assert raised.value.hint.startswith("use --format transformers or ")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_somebodys_onnx_file_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert engine_of_export(str(tmp_path)) is None
    (tmp_path / "export.json").write_text("{}")
    assert engine_of_export(str(tmp_path)) == "onnx"


def test_another_language_model_is_another_export(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write(tmp_path / "ctc", "whisper-tiny")
    monkeypatch.setattr("asr.models.ctc.onnx_export.write", lambda *asked: None)  # takes seconds
    first = exported(str(folder), "int8")
    (folder / "lm_words.arpa").write_text("n-grams")
    assert exported(str(folder), "int8") != first


def test_a_missing_model_is_a_persons_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        export("no-such-model", tmp_path / "out", "ctranslate2")
    assert not (tmp_path / "out").exists()


def test_without_ctranslate2_it_is_named(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: dict[str, Any] = {name: None for name in sys.modules if name.startswith("ctranslate2")}
    for name in {"ctranslate2", "ctranslate2.converters.transformers", *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install ctranslate2"):
        export(str(random_checkpoint), tmp_path / "out", "ctranslate2")
    assert not (tmp_path / "out").exists()
    export(str(random_checkpoint), tmp_path / "out", "transformers")


def test_a_folder_that_others_wrote_has_no_record(random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(random_checkpoint), tmp_path / "out", "ctranslate2", "int8")
    (tmp_path / "out" / RECORD).unlink()
    assert read_export(tmp_path / "out") is None
    assert any(value.dtype == torch.int8 for value in read_variables(tmp_path / "out" / "model.bin").values())
