from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from asr.errors import UserError
from asr.models.backends import NotExportable
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.batch_decode import emissions
from asr.models.ctc.onnx_backend import OnnxModel
from asr.models.ctc.onnx_export import FILE
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.torch_backend import TorchEmitter
from asr.models.export import RECORD, export
from asr.models.export_formats import Quantization
from asr.models.family import load_checkpoint
from asr.transcript import DecodingRequest, FeatureArray

pytestmark = pytest.mark.slow

# A waveform with a mask, one whose padding is heard nevertheless, columns with a mask, and columns without.
NAMES = ("wav2vec2-large-lv60", "data2vec-audio-base", "parakeet-ctc-0.6b", "whisper-tiny")
SECONDS = (0.3, 1.1, 1.2, 2.9)


@pytest.fixture(scope="module")
def written(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Quantization], Path]:
    """The folder of a tiny checkpoint's export, written once."""

    @cache
    def exported(name: str, quantization: Quantization) -> Path:
        folder = tmp_path_factory.mktemp("onnx") / name
        export(str(checkpoint(name)), folder, "onnx", quantization)
        return folder

    return exported


def noise(processor: CtcProcessor) -> list[FeatureArray]:
    random = np.random.default_rng(1)
    return [processor.features(random.standard_normal(round(16000 * each)).astype(np.float32)) for each in SECONDS]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_torch_says(
    name: str, written: Callable[[str, Quantization], Path], checkpoint: Callable[[str], Path]
) -> None:
    ours = OnnxModel.load(str(written(name, "float32")), threads=1)
    torchs = load_checkpoint(Checkpoint(name, checkpoint(name), "sha256:1"))
    assert isinstance(torchs.processor, CtcProcessor)
    clips = noise(ours.processor)
    wanted = emissions(TorchEmitter(torchs.network), torchs.processor, clips, "short")
    for found_TV, wanted_TV in zip(emissions(ours, ours.processor, clips, "short"), wanted, strict=True):
        np.testing.assert_allclose(found_TV, wanted_TV, atol=2e-3)
    requests = [DecodingRequest(clip, words=True, keywords=("a",)) for clip in clips]
    told = [one.text for one in ours.transcribe(requests, "short")]
    assert told == [one.text for one in torchs.transcribe(requests, "short")]
    assert any(told)


def test_in_int8_a_clip_says_the_same_alone_and_beside_others(written: Callable[[str, Quantization], Path]) -> None:
    model = OnnxModel.load(str(written("whisper-tiny", "int8")), threads=2)
    requests = [DecodingRequest(clip, words=True) for clip in noise(model.processor)]
    together = model.transcribe(requests, "short")
    assert together == [model.transcribe([request], "short")[0] for request in requests]
    assert together == model.transcribe(requests[::-1], "short")[::-1]
    assert model.quantization == "int8"
    assert model.transcribe([], "short") == []


def test_what_is_known_of_a_checkpoint(written: Callable[[str, Quantization], Path]) -> None:
    model = OnnxModel.load(str(written("wav2vec2-large-lv60", "float32")))
    assert (model.language, model.short_context, model.quantization) == (None, True, "float32")
    assert model.known_languages == frozenset()  # any
    assert not OnnxModel.load(str(written("whisper-tiny", "float32"))).short_context
    assert 10_000 < model.nbytes < 1_000_000


def test_a_damaged_export_is_one_line(written: Callable[[str, Quantization], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written("whisper-tiny", "float32"), tmp_path / "copy"))
    (folder / FILE).write_bytes(b"no network")
    with pytest.raises(UserError, match=r"model\.onnx: digest"):
        OnnxModel.load(str(folder))
    (folder / RECORD).unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        OnnxModel.load(str(folder))


def test_it_runs_on_a_cpu(written: Callable[[str, Quantization], Path]) -> None:
    with pytest.raises(UserError, match="runs on a CPU") as raised:
        OnnxModel.load(str(written("whisper-tiny", "float32")), "cuda")
    assert not isinstance(raised.value, NotExportable)
