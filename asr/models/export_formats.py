"""Formats that a model can be exported as."""

from __future__ import annotations

from typing import Literal

FastEngineName = Literal["ctranslate2", "onnx"]
"""Engines beside torch, each of one family, which read a format of their own."""
EngineName = Literal["torch", FastEngineName]
EngineChoice = Literal["auto", EngineName]
"""``auto``: the family's own engine where it can run the model, else torch."""
Format = Literal["transformers", FastEngineName]
Quantization = Literal["int8", "int8_float16", "float16", "float32"]
"""Quantisation of weights for CTranslate2; transformers' are floats, and ONNX Runtime's int8 or float32."""
