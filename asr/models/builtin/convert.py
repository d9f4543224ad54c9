"""A CTranslate2 Whisper folder made into a transformers checkpoint with processor and generation config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperTokenizer

from asr.errors import UserError
from asr.models.builtin.ct2_reader import read_variables, state_dict, whisper_config
from asr.parsed import JsonObject

# Multilingual exports from before February 2024 lack the first merge of all (transformers#29368): words that begin with
# t become two tokens, "Ġ" and the rest. Whisper was not trained on these, and may not begin a transcript with the "Ġ".
_LOST_MERGE = ("Ġ", "t")

_END, _START = "<|endoftext|>", "<|startoftranscript|>"


def convert(source: Path, target: Path) -> None:
    """Write the checkpoint at ``source`` (model.bin, config.json, tokenizer.json) to ``target`` for transformers.

    Weights keep their dtype. Raises UserError where a file is missing or damaged, or the weights are quantised.
    """
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (source / name).is_file():
            raise UserError(
                f"{source}: no {name}", "a CTranslate2 Whisper folder holds model.bin, config.json, tokenizer.json"
            )
    shapes, state = _read_weights(source / "model.bin")
    settings = _read_settings(source / "config.json")
    tokenizer = read_tokenizer(source / "tokenizer.json")
    tokenizer.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=shapes["num_mel_bins"]).save_pretrained(target)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (_END, _START)}
    config = WhisperConfig(
        **shapes,
        bos_token_id=ids[_END],
        eos_token_id=ids[_END],
        pad_token_id=ids[_END],
        decoder_start_token_id=ids[_START],
        architectures=["WhisperForConditionalGeneration"],
        dtype=str(state["model.encoder.conv1.weight"].dtype).removeprefix("torch."),
    )
    config.save_pretrained(target)
    generation_config(tokenizer, settings, shapes).save_pretrained(target)
    tensors = {name: value.contiguous() for name, value in state.items() if name != "proj_out.weight"}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    # safetensors leaves 0600, whatever the umask: a cache on a shared disk is read by others
    shutil.copymode(target / "config.json", target / "model.safetensors")


def _read_weights(path: Path) -> tuple[JsonObject, dict[str, torch.Tensor]]:
    variables = read_variables(path)
    try:
        state = state_dict(variables)
        return whisper_config(variables), state
    except KeyError as error:
        raise UserError(f"{path}: no variable {error}", "is this a whole Whisper model?") from None


def _read_settings(path: Path) -> JsonObject:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None


def read_tokenizer(path: Path) -> WhisperTokenizer:
    """Read the ``tokenizer.json`` of a CTranslate2 folder. Raises UserError where it is none."""
    return WhisperTokenizer(
        tokenizer_object=_tokenizer_object(path), bos_token=_END, eos_token=_END, unk_token=_END, pad_token=_END
    )


def _tokenizer_object(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
        model = json.loads(tokenizer.to_str())["model"]
        merges = [(left, right) for left, right in model["merges"]]
        if _LOST_MERGE not in merges and "".join(_LOST_MERGE) in model["vocab"]:
            tokenizer.model = BPE(model["vocab"], [_LOST_MERGE, *merges])
        return tokenizer
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(f"{path}: cannot be read as a tokenizer: {error}") from None


def generation_config(tokenizer: WhisperTokenizer, settings: JsonObject, shapes: JsonObject) -> GenerationConfig:
    """Build what OpenAI's checkpoints on the hub carry, from CTranslate2's ``config.json`` and the vocabulary."""

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    multilingual = shapes["vocab_size"] >= 51865  # the English-only vocabularies have 51864 entries
    fields: dict[str, object] = {
        "alignment_heads": settings.get("alignment_heads"),
        "suppress_tokens": settings.get("suppress_ids"),
        "begin_suppress_tokens": settings.get("suppress_ids_begin"),
        "bos_token_id": token(_END),
        "eos_token_id": token(_END),
        "pad_token_id": token(_END),
        "decoder_start_token_id": token(_START),
        "no_timestamps_token_id": token("<|notimestamps|>"),
        "prev_sot_token_id": token("<|startofprev|>"),
        "max_initial_timestamp_index": 50,
        "max_length": shapes["max_target_positions"],
        "return_timestamps": False,
        "is_multilingual": multilingual,
    }
    if multilingual:
        languages = {str(tokenizer.convert_ids_to_tokens(i)): i for i in settings["lang_ids"]}
        fields |= {
            "lang_to_id": languages,
            "task_to_id": {task: token(f"<|{task}|>") for task in ("transcribe", "translate")},
        }
    return GenerationConfig(**fields)
