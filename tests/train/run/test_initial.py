from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from tests.asr.models.ctc import tiny
from train.config import TrainConfig
from train.run.initial import initial_model, transcripts


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    rows = [{"audio_filepath": "a.wav", "text": "Due più due", "duration": 1.0, "id": str(i)} for i in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(manifest: Path | str, *settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, ["base=builtin:tiny.en", f"data.train={manifest}", *settings]).value


def test_a_base_starts_as_it_is_and_its_data_is_not_read() -> None:
    assert initial_model(config("/nowhere.jsonl")).head == ()


def test_a_new_head_is_made_for_the_training_transcripts(manifest: Path) -> None:
    initial = initial_model(config(manifest, "head=ctc", "ctc.casing=lower"))
    assert "ù" in json.loads(dict(initial.head)["vocab.json"])
    checkpoint = initial.checkpoint()
    assert checkpoint.folder != checkpoint.weights
    assert initial == initial_model(config(manifest, "head=ctc", "ctc.casing=lower"))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["ctc.casing=lower"], r"ctc\.casing is not for builtin:tiny\.en, which has no CTC head"),
        (["head=ctc", "packing.window_s=30", "packing.timestamp_share=0.1"], r"packing\.timestamp_share is not for a"),
        (["head=ctc", "packing=30s", "packing.previous_text_share=0.5"], r"packing\.previous_text_share"),
    ],
)
def test_a_key_of_the_other_family_is_refused_by_name(settings: list[str], key: str, manifest: Path) -> None:
    with pytest.raises(UserError, match=key):
        initial_model(config(manifest, *settings))


def test_keys_that_say_what_is_so_anyway_are_no_mistake(manifest: Path) -> None:
    assert initial_model(config(manifest, "ctc.casing=keep")).head == ()


def test_a_stream_has_no_vocabulary() -> None:
    streamed = config('{"source": "hf:owner/name", "streaming": true}', "head=ctc")
    with pytest.raises(UserError, match="is a stream, and the vocabulary needs all of its transcripts"):
        list(transcripts(streamed.data))


def test_rows_whose_audio_is_not_allowed_were_said_to_have_no_letters(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    rows = tmp_path / "rows" / "train.jsonl"
    rows.write_text(json.dumps({"id": "a", "audio": "../a.wav", "text": "uno"}))
    with pytest.raises(UserError, match=r"^data\.train: no row can be used, the first: a: address_not_allowed: "):
        initial_model(config(rows, "head=ctc"))


def ctc(tmp_path: Path, name: str = "wav2vec2-base-960h") -> str:
    return f"base={tiny.write(tmp_path / name, name)}"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("w2v-bert-2.0", ["strategy=frozen_feature_encoder"], "has no convolutions on waveforms"),
        ("wav2vec2-base-960h", ["strategy=language_adapter"], "has no adapters of languages"),
        ("wav2vec2-base-960h", ["lora.target_modules=[fc1]"], r"lora\.target_modules=fc1: .*layers are .*q_proj"),
        (
            "wav2vec2-base-960h",
            ["ctc.casing=upper"],
            r"ctc\.casing=upper: .* its own vocabulary, of casing 'lower'",
        ),
        ("wav2vec2-base-960h", ["ctc.unit=subword"], r"ctc\.unit=subword: .* keeps its own"),
        ("wav2vec2-base-960h", ["packing=30s", "packing.timestamp_share=0.1"], r"packing\.timestamp_share"),
    ],
)
def test_what_a_network_does_not_have_is_told_before_any_worker_starts(
    name: str, settings: list[str], told: str, manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        initial_model(config(manifest, ctc(tmp_path, name), *settings))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.medium
def test_what_a_network_has_is_no_mistake(manifest: Path, tmp_path: Path) -> None:
    for settings in (["strategy=frozen_feature_encoder"], ["lora.target_modules=[q_proj]"], ["ctc.casing=lower"]):
        assert initial_model(config(manifest, ctc(tmp_path), *settings)).head == ()
    assert initial_model(config(manifest, ctc(tmp_path, "mms-1b-all"), "strategy=language_adapter")).head == ()


@pytest.mark.weights
def test_whisper_has_no_adapters_of_languages(manifest: Path) -> None:
    with pytest.raises(UserError, match="Whisper has no adapters of languages"):
        initial_model(config(manifest, "strategy=language_adapter"))
    with pytest.raises(UserError, match=r"lora\.target_modules=wq"):
        initial_model(config(manifest, "lora.target_modules=[wq]"))


@pytest.mark.parametrize("path", ["/nowhere.arpa", "~nobody-here/x.arpa", "/", '"a\\0b"', "{folder}/damaged.arpa"])
def test_a_language_model_that_cannot_be_read_is_told_before_training(
    path: str, manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "damaged.arpa").write_text("\\data\\\nngram 1=two\n")
    with pytest.raises(UserError) as caught:
        initial_model(config(manifest, ctc(tmp_path), f"ctc.language_model={path.format(folder=tmp_path)}"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["bert", "wav2vec3", 7, None, ["whisper"]])
def test_a_base_without_an_encoder_of_speech_takes_no_head(kind: object, manifest: Path, tmp_path: Path) -> None:
    base = tiny.write(tmp_path / "base", "wav2vec2-base-960h")
    (base / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match="has no encoder of speech that a CTC head can be put on") as caught:
        initial_model(config(manifest, f"base={base}", "head=ctc"))
    assert len(str(caught.value).splitlines()) == 1
