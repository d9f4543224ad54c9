from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, WhisperForConditionalGeneration

from asr.errors import UserError
from asr.models import artifact
from asr.models.artifact import (
    Ancestor,
    BaseModel,
    Card,
    complete,
    is_artifact,
    load_model,
    read_card,
    record_evaluations,
    verified_card,
)
from asr.models.checkpoint import find_checkpoint, hub_id
from asr.models.lineage import root
from asr.models.whisper.ct2_backend import CTranslateModel
from asr.models.whisper.loading import load_checkpoint
from asr.scoring.evaluation import Evaluation, UtteranceResult
from tests.asr.models.ctc import tiny
from tests.asr.tiny_whisper import logits


def card(base: str, /, **changes: Any) -> Card:
    fields: dict[str, Any] = {
        "weights": "adapter",
        "base": BaseModel(name=base, digest=find_checkpoint(base).digest),
        "language": "en",
        "task": "transcribe",
        "short_context": True,
        "normaliser": "normalised",
        "data": {"clips": 3},
        "config": {"base": base},
        "training": {"step": 1},
        "versions": {"torch": "2"},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Card(**(fields | changes))


@pytest.fixture
def base(random_checkpoint: Path) -> str:
    """A tiny checkpoint of random weights."""
    return str(random_checkpoint)


def write_adapter(folder: Path, base: str) -> torch.Tensor:
    """Save an adapter with effect and return what the network says with it, unmerged."""
    torch.manual_seed(5)
    network = load_checkpoint(find_checkpoint(base)).network
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1", "fc2"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(folder)
    (folder / artifact.README).unlink(missing_ok=True)
    return logits(adapted.eval())


@pytest.fixture
def folder(tmp_path: Path, base: str) -> Path:
    """A sealed artifact."""
    write_adapter(tmp_path / "artifact", base)
    complete(tmp_path / "artifact", card(base))
    return tmp_path / "artifact"


def summary(label: str, heard: str) -> Mapping[str, Any]:
    results = [UtteranceResult(str(i), "one two three four", heard, 2.0) for i in range(4)]
    return {"label": label, **Evaluation("x", "en", "short", results, 1.0).summary()}


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("real", [False, True], ids=["tiny random", "real"])
def test_a_loaded_adapter_is_the_trained_network(tmp_path: Path, base: str, tiny_en_name: str, real: bool) -> None:
    base = tiny_en_name if real else base
    trained = write_adapter(tmp_path / "artifact", base)
    complete(tmp_path / "artifact", card(base))
    model = load_model(str(tmp_path / "artifact"))
    torch.testing.assert_close(logits(model.network), trained, atol=1e-3, rtol=1e-3)
    plain = logits(load_checkpoint(find_checkpoint(base)).network)
    assert not torch.allclose(plain, trained, atol=0.1), "an adapter without effect would prove nothing"
    assert (model.name, model.language, model.short_context) == (str(tmp_path / "artifact"), "en", True)
    assert type(model.network).__name__ == "AnyContextWhisper", "merged: nothing of PEFT is left"
    assert not any("lora" in name for name in model.network.state_dict())


@pytest.mark.parametrize(
    ("packing", "expected"),
    [({"window_s": 20.0}, 20.0), ({"window_s": 30}, 30.0), ({"window_s": None}, 12.0), (None, 12.0), ("30s", 12.0)],
)
def test_the_card_tells_how_much_speech_was_heard_at_once(
    tmp_path: Path, base: str, packing: Any, expected: Any
) -> None:
    config = {"base": base} | ({"packing": packing} if packing else {})
    told = card(base, config=config, data={"fingerprint": "f", "clips": 100, "audio_s": 300.0})
    write_adapter(tmp_path / "artifact", base)
    GenerationConfig.from_pretrained(find_checkpoint(base).folder).save_pretrained(tmp_path / "artifact")
    complete(tmp_path / "artifact", told)
    assert load_model(str(tmp_path / "artifact")).speech_s == expected
    fast = CTranslateModel.load(str(tmp_path / "artifact"))
    assert (fast.speech_s, fast.short_context) == (expected, True)


def test_a_checkpoint_is_loaded_by_the_same_function(base: str) -> None:
    model = load_model(base)
    assert (model.name, model.language, model.short_context) == (base, None, False)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{name}: digest" in refused(folder)
    path.unlink()
    assert "artifact" in refused(folder)
    assert "missing" in refused(folder)


@pytest.mark.parametrize("left", [0, 7, 1000])
def test_a_truncated_adapter_that_was_sealed_again_was_a_traceback(folder: Path, base: str, left: int) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    complete(folder, card(base))
    assert f"{folder}: its adapter is damaged or not complete" in refused(folder)


@pytest.mark.parametrize(("family", "part"), [("ctc", "its family is ctc, but"), ("../x", "no family of models")])
def test_a_card_of_another_family_than_its_files_was_scored(folder: Path, base: str, family: str, part: str) -> None:
    complete(folder, card(base, family=family))
    assert part in refused(folder)
    shutil.copytree(base, folder.parent / "full")
    complete(folder.parent / "full", card(base, family=family, weights="full"))
    assert part in refused(folder.parent / "full")


def test_a_ctc_network_whose_card_says_whisper_was_scored(folder: Path, base: str) -> None:
    tiny.write_config(folder, "wav2vec2-base-960h")
    complete(folder, card(base))
    assert "its family is whisper, but" in refused(folder)


def test_an_artifact_without_a_card_was_never_finished(folder: Path) -> None:
    (folder / "card.json").unlink()
    assert is_artifact(folder)
    assert "never finished" in refused(folder)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda fields: fields | {"format_version": 2}, "format_version: "),
        (lambda fields: fields | {"colour": "red"}, "colour: "),
        (lambda fields: {key: fields[key] for key in fields if key != "base"}, "base: "),
        (lambda fields: fields | {"files": {}}, "no digest of adapter_model.safetensors"),
        (lambda fields: [], "card.json: Input should be"),
    ],
)
def test_a_damaged_card_is_named(folder: Path, damage: Any, part: str) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    message = refused(folder)
    assert "card.json: " in message
    assert part in message


def test_a_card_cut_short(folder: Path) -> None:
    path = folder / "card.json"
    path.write_text(path.read_text()[:100])
    assert f"{path}: Invalid JSON" in refused(folder)


def test_an_adapter_is_never_put_on_other_weights(tmp_path: Path, base: str) -> None:
    write_adapter(tmp_path / "artifact", base)
    complete(tmp_path / "artifact", card(base, base=BaseModel(name=base, digest="sha256:other")))
    message = refused(tmp_path / "artifact")
    assert find_checkpoint(base).digest in message
    assert "sha256:other" in message


def test_every_file_but_card_and_readme_has_a_digest(folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    assert set(verified_card(folder).files) == files - {"card.json", "README.md"}
    assert len(files) == 4


def test_the_card_is_written_last(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "artifact"
    write_adapter(target, base)

    def die(path: Path, other: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", die)
        complete(target, card(base))
    assert not (target / "card.json").exists()
    assert (target / "README.md").is_file(), "all else was there"
    assert "never finished" in refused(target)
    complete(target, card(base))
    verified_card(target)  # the draft that the interruption left behind is no part of the artifact


def test_evaluations_are_recorded_without_touching_the_weights(folder: Path) -> None:
    before = read_card(folder)
    record_evaluations(folder, [summary("before", "one five three four")])
    after = record_evaluations(
        folder, [summary("before", "one five three four"), summary("after", "one two three four")]
    )
    assert after == verified_card(folder)
    assert after.files == before.files
    assert [one["label"] for one in after.evaluations] == ["before", "after"], "in place of those it had"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| before | 4 | 25.0% (25.0% to 25.0%) | 25.0% (25.0% to 25.0%) |" in text
    assert "| after | 4 | 0.0% (0.0% to 0.0%) |" in text
    assert "normaliser: normalised" in text
    load_model(str(folder))


def test_the_readme_is_a_model_card(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["base_model"] == hub_id(read_card(folder).base.name)
    assert (fields["language"], fields["library_name"]) == ("en", "peft")
    assert fields["pipeline_tag"] == "automatic-speech-recognition"
    assert "A LoRA adapter for" in body
    assert "WER" not in body, "no table without evaluations"


def test_full_weights_load_here_and_in_plain_transformers(tmp_path: Path, base: str) -> None:
    folder = tmp_path / "full"
    model = load_checkpoint(find_checkpoint(base))
    with torch.no_grad():
        model.network.model.encoder.conv1.bias += 0.1
    model.network.save_pretrained(folder)
    model.processor.save_inputs(folder)
    complete(folder, card(base, weights="full", short_context=False))
    expected = logits(model.network)
    plain = WhisperForConditionalGeneration.from_pretrained(folder)
    assert torch.equal(logits(plain), expected)
    loaded = load_model(str(folder))
    assert torch.equal(logits(loaded.network), expected)
    assert (loaded.language, loaded.short_context) == ("en", False)
    (folder / "model.safetensors").write_bytes(b"")
    assert "model.safetensors: digest" in refused(folder)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "model.safetensors.index.json", "parent/x", "chat_template.jinja"]
)
def test_a_file_that_was_added_is_refused(tmp_path: Path, base: str, name: str) -> None:
    """transformers loads an adapter that lies beside whole weights: other words, and the same fingerprint."""
    network = load_checkpoint(find_checkpoint(base)).network
    network.save_pretrained(tmp_path / "artifact")
    complete(tmp_path / "artifact", card(base, weights="full"))
    (tmp_path / "artifact" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "artifact" / name).write_text("{}")
    assert refused(tmp_path / "artifact") == (
        f"{tmp_path / 'artifact' / name}: card.json does not list it: it could change the model (remove it)"
    )


def test_what_file_managers_and_the_hubs_tools_leave_changes_nothing(folder: Path) -> None:
    for name in (".DS_Store", ".gitattributes", ".cache/huggingface/x.lock", "__MACOSX/._card.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    load_model(str(folder))


def test_an_adapter_that_asks_for_more_is_refused_though_its_card_says_so(folder: Path, base: str) -> None:
    place = folder / "adapter_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"megatron_core": "os"}))
    complete(folder, card(base))
    assert "megatron_core" in refused(folder)


HOSTILE = (
    "s3://team/base?endpoint_override={host}&scheme=http",
    "gs://team/base?endpoint_override={host}&scheme=http",
    "s3://key:secret@team/base",
    "hdfs://{host}/base",
    "abfs://team@{host}/base",
    "ftp://{host}/base",
    "http://{host}/base",
    "s3://team/base?endpoint_override={host}&scheme=http#x",
)


@pytest.mark.parametrize("place", ["", "s3://own/art", "s3://own/art?endpoint_override=127.0.0.1:9&scheme=http"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_sent_our_credentials_to_a_host_of_its_choice(
    tmp_path: Path, base: str, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key id, signature and session token reached whoever wrote `base.name`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVICTIM")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        hostile = name.format(host=f"127.0.0.1:{listener.getsockname()[1]}")
        made = card(base, base=BaseModel(name=hostile, digest="sha256:0"))
        with pytest.raises(UserError, match=r"host that the card chooses"):
            artifact.find_base(tmp_path, made, place)
        complete(tmp_path, made.model_copy(update={"lineage": [Ancestor(name=hostile, digest="sha256:0")]}))
        with pytest.raises(UserError, match=r"host that the card chooses"):
            root(tmp_path, place)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("name", "place", "found"),
    [
        ("s3://team/base", "", "s3://team/base"),
        ("s3://team/base", "s3://team/art?region=x", "s3://team/base?region=x"),
        ("s3://team/base?region=x", "s3://team/art?region=x", "s3://team/base?region=x"),
        ("s3://other/base?region=x", "s3://team/art?region=x", "s3://other/base?region=x"),
        ("hdfs://own:8020/base", "hdfs://own:8020/art", "hdfs://own:8020/base"),
        ("file:///d/base", "s3://team/art", "file:///d/base"),
        ("owner/name", "", "owner/name"),
    ],
)
def test_bases_that_a_card_may_name(tmp_path: Path, name: str, place: str, found: str) -> None:
    assert artifact.told_base(tmp_path, name, place) == found
