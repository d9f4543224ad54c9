from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asr.errors import UserError
from asr.models.backends import NotExportable
from asr.models.checkpoint import Checkpoint
from asr.models.ctc import onnx_export
from asr.models.ctc.onnx_export import DATA, FILE, write
from asr.models.ctc.processor import CtcProcessor
from asr.models.export_formats import Quantization
from asr.models.family import SpeechModel, load_checkpoint


@pytest.fixture
def model(checkpoint: Callable[[str], Path]) -> SpeechModel:
    return load_checkpoint(Checkpoint("tiny", checkpoint("wav2vec2-large-lv60"), "sha256:1"))


def attempt(model: SpeechModel, folder: Path, quantization: Quantization = "float32") -> None:
    assert isinstance(model.processor, CtcProcessor)
    write(model, model.processor, folder, quantization)


def test_quantizations_that_no_matrix_has_here_are_refused(model: SpeechModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantization=float16 is not for onnx"):
        attempt(model, tmp_path, "float16")


def test_without_the_packages_what_to_install_is_said(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r"pip install 'whisperfleet\[onnx\]'"):
        attempt(model, tmp_path)
    assert not model.family.runs_fast("cpu")


def test_it_is_the_engine_of_a_cpu(model: SpeechModel) -> None:
    assert model.family.runs_fast("cpu")
    assert not model.family.runs_fast("cuda")


@pytest.mark.slow
def test_a_network_that_cannot_be_traced_is_one_line(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: object, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] if inputs[0].sum() > 0 else inputs[1]

    monkeypatch.setattr(onnx_export._Logits, "forward", forward)
    with pytest.raises(NotExportable, match=r"'tiny' \(Wav2Vec2ForCTC\) cannot be exported") as raised:
        attempt(model, tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_says_something_else_is_not_used(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = onnx_export._Logits.forward
    monkeypatch.setattr(onnx_export._Logits, "forward", lambda self, *inputs: forward(self, *inputs).flip(-1))
    with pytest.raises(NotExportable, match="says something else"):
        attempt(model, tmp_path)


@pytest.mark.slow
def test_nothing_is_left_beside_network_weights_and_config(model: SpeechModel, tmp_path: Path) -> None:
    attempt(model, tmp_path, "int8")
    assert {path.name for path in tmp_path.iterdir()} == {FILE, DATA, "config.json"}
