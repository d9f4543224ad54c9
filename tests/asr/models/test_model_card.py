from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from asr.models.artifact import Ancestor, BaseModel, Card
from asr.models.model_card import CURVE, readme


def card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "weights": "adapter",
        "base": BaseModel(name="openai/whisper-base", digest="sha256:x"),
        "language": "it",
        "task": "transcribe",
        "short_context": True,
        "normaliser": "normalised",
        "data": {},
        "config": {},
        "training": {},
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Card(**(fields | changes))


def front_of(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load(text.split("---\n", 2)[1])
    return fields


def network(folder: Path, model_type: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def test_a_whisper_is_called_one(tmp_path: Path) -> None:
    text = readme(card(), tmp_path)
    assert "# Whisper for Italian\n\nA LoRA adapter for `openai/whisper-base` (transcribe).\n" in text
    assert "It takes clips at their own length, or padded to 30 s." in text
    assert front_of(text)["tags"] == ["whisper", "whisperfleet"]
    assert front_of(text)["library_name"] == "peft"
    assert "Other software" not in text, "PEFT loads it as it is"
    full = readme(card(weights="full", short_context=False, language=None), tmp_path)
    assert "# Whisper for many languages\n\nA full fine-tune of" in full
    assert "It takes clips padded to 30 s." in full
    assert front_of(full)["library_name"] == "transformers"


@pytest.mark.parametrize("weights", ["adapter", "full"])
def test_a_ctc_head_on_whisper_s_encoder_is_a_network_that_other_software_does_not_have(
    weights: str, tmp_path: Path
) -> None:
    text = readme(card(family="ctc", weights=weights), network(tmp_path, "whisper_ctc"))
    assert "# CTC for Italian" in text and "Whisper for" not in text
    assert front_of(text)["tags"] == ["ctc", "whisperfleet"]
    assert front_of(text)["library_name"] == "whisperfleet"
    assert "plain transformers does not load it" in text
    assert "whisperfleet export" not in text, "nor what it writes"
    assert "at their own length, or padded to 30 s" in text


def test_a_ctc_network_of_transformers_is_merged_for_other_software(tmp_path: Path) -> None:
    folder = network(tmp_path, "wav2vec2")
    text = readme(card(family="ctc", language="dv"), folder)
    assert "# CTC for Dhivehi" in text
    assert "A CTC head, which writes the characters that are heard, and a LoRA adapter for" in text
    assert "`whisperfleet export` writes a whole model" in text
    assert "It takes clips of at most 30 s at their own length." in text
    assert front_of(text)["language"] == "dv"
    full = readme(card(family="ctc", weights="full"), folder)
    assert "A CTC model, which writes the characters that are heard, fine-tuned from" in full
    assert front_of(full)["library_name"] == "transformers"
    assert "Other software" not in full


def test_parents_and_the_learning_curve_are_shown(tmp_path: Path) -> None:
    parents = [Ancestor(name="runs/a/artifact", digest="sha256:y", fingerprint="abc"), Ancestor(name="b", digest="z")]
    text = readme(card(lineage=parents, files={CURVE: "0"}), tmp_path)
    assert "It was made from `runs/a/artifact` (abc), which was made from `b`." in text
    assert "`whisperfleet export` writes a whole model" in text
    assert f"![learning curve]({CURVE})" in text
    assert front_of(text)["base_model"] == "b"


def test_a_damaged_config_is_for_loading_to_tell(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    assert "# CTC for Italian" in readme(card(family="ctc"), tmp_path)
