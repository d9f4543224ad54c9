from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr.errors import UserError
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.train.checks.doctored import subject, tiny_checkpoint
from train.checks import model as checks_model
from train.checks.model import decoding, gradients


@pytest.mark.slow
@pytest.mark.weights
def test_a_real_base_hears_words_and_learns(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:3])
    heard = decoding(checked)
    words = " ".join(row.text.lower() for row, _ in checked.shortest).split()
    assert sum(word.strip("',.") in words for word in heard.detail.lower().split()) >= 4
    learnt = gradients(checked)
    assert learnt.state == "ok"
    assert "lora trains" in learnt.detail


@pytest.mark.medium
@pytest.mark.parametrize("strategy", ["full", "frozen_encoder", "dora"])
def test_each_strategy_with_activation_checkpointing(
    tmp_path: Path, english_clips: list[Utterance], strategy: str
) -> None:
    base = tiny_checkpoint(tmp_path / "base", "builtin:tiny.en")
    settings = [f"strategy={strategy}", "activation_checkpointing=true"]
    assert gradients(subject(tmp_path, base, english_clips[:3], *settings)).state == "ok"


@pytest.mark.slow
def test_adapters_that_no_gradient_reaches(
    tmp_path: Path, english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*args: object) -> torch.nn.Module:
        network = adapt(*args)
        network.base_model.model.model.encoder.register_forward_hook(
            lambda module, inputs, output: type(output)(last_hidden_state=output.last_hidden_state.detach())
        )
        return network

    adapt = checks_model.adapt
    monkeypatch.setattr(checks_model, "adapt", cut_off)
    base = tiny_checkpoint(tmp_path / "base", "builtin:tiny.en")
    with pytest.raises(UserError, match=r"no gradient reaches 12 of .* trained weights: .*encoder\.layers\.0"):
        gradients(subject(tmp_path, base, english_clips[:3]))


def test_a_base_that_this_machine_cannot_hold_is_not_loaded(
    tmp_path: Path, english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_model, "spare_bytes", lambda: 200_000_000)  # tiny.en has 38 M weights
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:3], "strategy=full")
    outcome = gradients(checked)
    assert outcome.state == "skipped"
    assert "over 0.3 GB" in outcome.detail
    assert "model" not in vars(checked)
    monkeypatch.setattr(checks_model, "spare_bytes", lambda: 100_000_000)
    assert decoding(checked).state == "skipped"


def test_there_is_memory_to_spare() -> None:
    assert 1e8 < checks_model.spare_bytes() < 1e14


@pytest.mark.medium
def test_weights_that_are_not_numbers(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, tiny_checkpoint(tmp_path / "base", "builtin:tiny.en"), english_clips[:3])
    with torch.no_grad():
        checked.model.network.model.encoder.conv1.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="the first loss is nan"):
        gradients(checked)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("wav2vec2-base-960h", ["strategy=frozen_feature_encoder"]),
        ("w2v-bert-2.0", ["strategy=lora", "activation_checkpointing=true", "ctc.vocabulary=transcripts"]),
        ("parakeet-ctc-0.6b", ["strategy=full", "ctc.vocabulary=transcripts", "ctc.unit=subword"]),
    ],
)
def test_ctc_networks_decode_and_learn(
    name: str, settings: list[str], tmp_path: Path, english_clips: list[Utterance]
) -> None:
    checked = subject(tmp_path, tiny.write(tmp_path / "base", name), english_clips[:3], *settings)
    assert decoding(checked).state == "ok"
    assert gradients(checked).state == "ok"


@pytest.mark.medium
def test_a_new_head_on_whispers_encoder_decodes_and_learns(tmp_path: Path, english_clips: list[Utterance]) -> None:
    base = tiny_checkpoint(tmp_path / "base", "builtin:tiny.en")
    checked = subject(tmp_path, base, english_clips[:3], "head=ctc")
    assert decoding(checked).state == gradients(checked).state == "ok"


def test_where_no_clip_has_a_label_nothing_is_run(tmp_path: Path, english_clips: list[Utterance]) -> None:
    rows = [replace(clip, text="привет") for clip in english_clips[:2]]
    checked = subject(tmp_path, tiny.write(tmp_path / "base", "wav2vec2-base-960h"), rows)
    assert decoding(checked).state == gradients(checked).state == "skipped"
