"""Reading Whisper weights in CTranslate2's file format and naming them as transformers does.

The layout of ``model.bin`` follows CTranslate2's ``model_spec.py`` (binary version 6): a header, the variables, the
aliases. All integers are little-endian. The mapping of names is exact in both directions: transformers keeps q, k and
v apart where CTranslate2 stacks them, and has no bias on k (CTranslate2 stores zeros there).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from asr.errors import UserError
from asr.parsed import JsonObject

_BFLOAT16 = 5
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, _BFLOAT16: np.int16}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

_ATTENTION_NORMS = {"self_attention": "self_attn_layer_norm", "attention": "encoder_attn_layer_norm"}
_MODULES = {"self_attention": "self_attn", "attention": "encoder_attn"}


def read_variables(path: Path) -> dict[str, torch.Tensor]:
    """Read ``model.bin`` into tensors by CTranslate2 name. Raises UserError where it is something else or cut short.

    An alias stands for any variable of equal content (the projection, some biases): it gets its own name back.
    """
    try:
        with path.open("rb") as file:
            variables = dict(_variables(file))
            for _ in range(_unpack(file, "I")):
                alias, name = _string(file), _string(file)
                variables[alias] = variables[name].clone()  # safetensors refuses shared memory
            return variables
    except (struct.error, UnicodeDecodeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a CTranslate2 Whisper model, or incomplete ({error})") from None


def _variables(file: BinaryIO) -> Iterator[tuple[str, torch.Tensor]]:
    version, spec = _unpack(file, "I"), _string(file)
    if version < 5 or spec != "WhisperSpec":
        raise ValueError(f"binary version {version}, specification '{spec[:40]}'")
    _unpack(file, "I")  # revision of the specification
    for _ in range(_unpack(file, "I")):
        name = _string(file)
        shape = [_unpack(file, "I") for _ in range(_unpack(file, "B"))]
        dtype, size = _unpack(file, "B"), _unpack(file, "I")
        raw = bytearray(file.read(size))
        if len(raw) < size:
            raise ValueError(f"'{name}' ends after {len(raw)} of {size} bytes")
        value = torch.from_numpy(np.frombuffer(raw, dtype=_DTYPES[dtype]).reshape(shape))
        yield name, value.view(torch.bfloat16) if dtype == _BFLOAT16 else value  # NumPy has no bfloat16


def _unpack(file: BinaryIO, code: str) -> int:
    layout = struct.Struct(f"<{code}")
    return int(layout.unpack(file.read(layout.size))[0])


def _string(file: BinaryIO) -> str:
    return file.read(_unpack(file, "H")).rstrip(b"\0").decode("utf-8")


def whisper_config(variables: dict[str, torch.Tensor]) -> JsonObject:
    """Derive transformers' ``WhisperConfig`` fields from the shapes of the variables."""
    vocab_size, d_model = variables["decoder/embeddings/weight"].shape
    encoder_layers = _count_layers(variables, "encoder")
    decoder_layers = _count_layers(variables, "decoder")
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_mel_bins": variables["encoder/conv1/weight"].shape[1],
        "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": variables["decoder/position_encodings/encodings"].shape[0],
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "num_hidden_layers": encoder_layers,
        "encoder_attention_heads": int(variables["encoder/num_heads"]),
        "decoder_attention_heads": int(variables["decoder/num_heads"]),
        "encoder_ffn_dim": variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        "decoder_ffn_dim": variables["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        "dropout": 0.0,
    }


def _count_layers(variables: dict[str, torch.Tensor], stack: str) -> int:
    return len({name.split("/")[1] for name in variables if name.startswith(f"{stack}/layer_") and "/ffn/" in name})


def state_dict(variables: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the variables as a ``WhisperForConditionalGeneration`` state dict of the same dtype.

    Raises UserError for quantised weights, and for variables that no Whisper has.
    """
    state: dict[str, torch.Tensor] = {}
    for name, value in variables.items():
        if value.dim() == 0:
            continue  # settings such as num_heads
        if value.dtype not in _FLOATS or name.endswith("/weight_scale"):
            raise UserError(f"'{name}' is quantised", "take the float16 or float32 export of the same checkpoint")
        try:
            state.update(_rename(name, value))
        except KeyError:
            raise UserError(f"'{name}' has no place in a Whisper model", "is this another architecture?") from None
    state.setdefault("proj_out.weight", state["model.decoder.embed_tokens.weight"])
    return state


def _rename(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    stack, *path, leaf = name.split("/")
    prefix = f"model.{stack}"
    match path:
        case ["projection"]:
            return {f"proj_out.{leaf}": value}
        case ["embeddings"]:
            return {f"{prefix}.embed_tokens.weight": value}
        case ["position_encodings"]:
            return {f"{prefix}.embed_positions.weight": value}
        case ["conv1" | "conv2" as conv]:
            return {f"{prefix}.{conv}.{leaf}": value}
        case ["layer_norm"]:
            return {f"{prefix}.layer_norm.{_norm_leaf(leaf)}": value}
        case [layer, "ffn", part]:
            layer_prefix = f"{prefix}.layers.{layer.removeprefix('layer_')}"
            if part == "layer_norm":
                return {f"{layer_prefix}.final_layer_norm.{_norm_leaf(leaf)}": value}
            return {f"{layer_prefix}.fc{int(part.removeprefix('linear_')) + 1}.{leaf}": value}
        case [layer, ("self_attention" | "attention") as kind, part]:
            layer_prefix = f"{prefix}.layers.{layer.removeprefix('layer_')}"
            if part == "layer_norm":
                return {f"{layer_prefix}.{_ATTENTION_NORMS[kind]}.{_norm_leaf(leaf)}": value}
            return _projections(f"{layer_prefix}.{_MODULES[kind]}", kind, part, leaf, value)
    raise KeyError(name)


def _norm_leaf(leaf: str) -> str:
    return {"gamma": "weight", "beta": "bias"}[leaf]


def _projections(module: str, kind: str, part: str, leaf: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    stacked = {
        ("self_attention", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("self_attention", "linear_1"): ("out_proj",),
        ("attention", "linear_0"): ("q_proj",),
        ("attention", "linear_1"): ("k_proj", "v_proj"),
        ("attention", "linear_2"): ("out_proj",),
    }[kind, part]
    pieces = zip(stacked, value.chunk(len(stacked), dim=0), strict=True)
    return {f"{module}.{name}.{leaf}": piece for name, piece in pieces if (name, leaf) != ("k_proj", "bias")}
