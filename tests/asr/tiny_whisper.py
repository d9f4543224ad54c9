"""A Whisper of a few thousand weights, and a writer of CTranslate2's file format to put it through."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

ENGLISH, MULTILINGUAL = 51864, 51865
CODES = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.float16: 4, torch.bfloat16: 5}


def random_whisper(
    vocab_size: int = ENGLISH, dtype: torch.dtype = torch.float32, layers: tuple[int, int] = (2, 3)
) -> WhisperForConditionalGeneration:
    """All weights random, but for the biases of the feed-forward layers: these are equal, so that aliases are made."""
    torch.manual_seed(7)
    end = vocab_size - 1608
    config = WhisperConfig(
        vocab_size=vocab_size,
        d_model=16,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=32,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=end + 1,
    )
    network = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.endswith("fc1.bias"):
                parameter.normal_(std=0.2)
    return network.to(dtype)


def ct2_variables(network: WhisperForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Name and stack the weights as CTranslate2's converter does."""
    state = network.state_dict()
    config = network.config
    variables = {
        "encoder/num_heads": torch.tensor(config.encoder_attention_heads, dtype=torch.int16),
        "decoder/num_heads": torch.tensor(config.decoder_attention_heads, dtype=torch.int16),
        "decoder/embeddings/weight": state["model.decoder.embed_tokens.weight"],
        "decoder/projection/weight": state["proj_out.weight"],
        "encoder/conv1/weight": state["model.encoder.conv1.weight"],
        "encoder/conv1/bias": state["model.encoder.conv1.bias"],
        "encoder/conv2/weight": state["model.encoder.conv2.weight"],
        "encoder/conv2/bias": state["model.encoder.conv2.bias"],
    }
    for stack, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        variables[f"{stack}/position_encodings/encodings"] = state[f"model.{stack}.embed_positions.weight"]
        variables |= _norm(state, f"model.{stack}.layer_norm", f"{stack}/layer_norm")
        for index in range(layers):
            ours, theirs = f"model.{stack}.layers.{index}", f"{stack}/layer_{index}"
            variables |= _attention(state, f"{ours}.self_attn", f"{theirs}/self_attention", [["q", "k", "v"], ["out"]])
            if stack == "decoder":
                stacked = [["q"], ["k", "v"], ["out"]]
                variables |= _attention(state, f"{ours}.encoder_attn", f"{theirs}/attention", stacked)
            for number in (1, 2):
                variables[f"{theirs}/ffn/linear_{number - 1}/weight"] = state[f"{ours}.fc{number}.weight"]
                variables[f"{theirs}/ffn/linear_{number - 1}/bias"] = state[f"{ours}.fc{number}.bias"]
            variables |= _norm(state, f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
    return variables


def _attention(
    state: Mapping[str, torch.Tensor], ours: str, theirs: str, stacked: list[list[str]]
) -> dict[str, torch.Tensor]:
    variables = _norm(state, f"{ours}_layer_norm", f"{theirs}/layer_norm")
    for number, names in enumerate(stacked):
        weights = [state[f"{ours}.{name}_proj.weight"] for name in names]
        zeros = torch.zeros_like(weights[0][:, 0])
        biases = [state.get(f"{ours}.{name}_proj.bias", zeros) for name in names]
        variables[f"{theirs}/linear_{number}/weight"] = torch.cat(weights)
        variables[f"{theirs}/linear_{number}/bias"] = torch.cat(biases)
    return variables


def _norm(state: Mapping[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    return {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}


def write_model(path: Path, variables: Mapping[str, torch.Tensor], spec: str = "WhisperSpec") -> None:
    """Write ``model.bin``. What equals an earlier variable becomes an alias of it, as in CTranslate2."""
    kept: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, value in sorted(variables.items()):
        same = [
            other for other, it in kept.items() if value.dim() and it.dtype == value.dtype and torch.equal(it, value)
        ]
        if same:
            aliases[name] = same[0]
        else:
            kept[name] = value
    with path.open("wb") as file:
        file.write(struct.pack("<I", 6) + _text(spec) + struct.pack("<II", 3, len(kept)))
        for name, value in kept.items():
            raw = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            head = struct.pack(f"<B{value.dim()}I", value.dim(), *value.shape)
            file.write(_text(name) + head + struct.pack("<BI", CODES[value.dtype], len(raw)) + raw)
        file.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases.items():
            file.write(_text(alias) + _text(name))


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write_ct2_folder(folder: Path, tokenizer: Path, settings: str, variables: Mapping[str, torch.Tensor]) -> Path:
    """Write ``model.bin``, ``config.json`` and ``tokenizer.json`` (a copy of ``tokenizer``)."""
    folder.mkdir(exist_ok=True)
    write_model(folder / "model.bin", variables)
    (folder / "config.json").write_text(settings)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    return folder


def logits(network: Any, frames: int = 3000) -> torch.Tensor:
    """What a network says of one random clip."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, network.config.num_mel_bins, frames, generator=generator).to(network.dtype)
    tokens = torch.randint(0, 50000, (1, 6), generator=generator)
    with torch.no_grad():
        return network(input_features=features, decoder_input_ids=tokens).logits
