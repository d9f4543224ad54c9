"""A CTranslate2 Whisper folder made into a transformers checkpoint with processor and generation config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperTokenizer

from asr.ct2 import read_variables, state_dict, whisper_config
from asr.errors import UserError

_END, _START = "<|endoftext|>", "<|startoftranscript|>"


def convert(source: Path, target: Path) -> None:
    """Write the checkpoint at ``source`` (model.bin, config.json, tokenizer.json) to ``target`` for transformers.

    Weights keep their dtype. Raises UserError where a file is missing or the weights are quantised.
    """
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (source / name).is_file():
            raise UserError(
                f"{source}: no {name}", "a CTranslate2 Whisper folder holds model.bin, config.json, tokenizer.json"
            )
    variables = read_variables(source / "model.bin")
    tokenizer = WhisperTokenizer(
        tokenizer_object=_tokenizer_object(source / "tokenizer.json"),
        bos_token=_END,
        eos_token=_END,
        unk_token=_END,
        pad_token=_END,
    )
    tokenizer.save_pretrained(target)
    shapes = whisper_config(variables)
    WhisperFeatureExtractor(feature_size=shapes["num_mel_bins"]).save_pretrained(target)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (_END, _START)}
    config = WhisperConfig(
        **shapes,
        bos_token_id=ids[_END],
        eos_token_id=ids[_END],
        pad_token_id=ids[_END],
        decoder_start_token_id=ids[_START],
        architectures=["WhisperForConditionalGeneration"],
        dtype=str(variables["encoder/conv1/weight"].dtype).removeprefix("torch."),
    )
    config.save_pretrained(target)
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    generation_config(tokenizer, settings, shapes).save_pretrained(target)
    tensors = {name: value.contiguous() for name, value in state_dict(variables).items() if name != "proj_out.weight"}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def _tokenizer_object(path: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def generation_config(
    tokenizer: WhisperTokenizer, settings: dict[str, Any], shapes: dict[str, Any]
) -> GenerationConfig:
    """Build what OpenAI's checkpoints on the hub carry, from CTranslate2's ``config.json`` and the vocabulary."""

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    multilingual = shapes["vocab_size"] >= 51865  # the English-only vocabularies have 51864 entries
    fields: dict[str, Any] = {
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
