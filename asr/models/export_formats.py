"""Formats that a model can be exported as."""

from __future__ import annotations

from typing import Literal

Format = Literal["transformers", "ctranslate2"]
Quantization = Literal["int8", "int8_float16", "float16", "float32"]
"""Quantisation of CTranslate2's weights; transformers' are floats."""
