from __future__ import annotations

from typing import get_args

from ctranslate2.specs import ModelSpec

from asr.models.export_formats import Format, Quantization


def test_ctranslate2_knows_each_quantization() -> None:
    assert set(get_args(Format)) == {"transformers", "ctranslate2", "onnx"}
    for quantization in get_args(Quantization):
        ModelSpec().optimize(quantization=quantization)
