"""CTC checkpoints of a few thousand random weights, with all files that published ones have.

Their feature extractors are set as those of the checkpoint that each stands for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    ParakeetFeatureExtractor,
    ParakeetTokenizer,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.models.lasr.feature_extraction_lasr import LasrFeatureExtractor

import asr.models.ctc.whisper_ctc  # noqa: F401  # registers itself

SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
PIECES = ["<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz'", "▁a", "th", "<pad>"]

# Of the wav2vec 2.0 family: the strides are the published ones, so a position has 20 ms.
_WAVE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.1,
    "pad_token_id": 0,
}
_GROUP = _WAVE | {"feat_extract_norm": "group", "conv_bias": False}
_LAYER = _WAVE | {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
_FAST = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "subsampling_conv_channels": 8,
    "num_mel_bins": 80,
    "dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
}
_SEW = {"squeeze_factor": 2, "conv_dim": [8] * 13} | {
    "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
    "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
}

CONFIGS: dict[str, dict[str, Any]] = {
    "wav2vec2-base-960h": {"model_type": "wav2vec2"} | _GROUP,
    "wav2vec2-large-lv60": {"model_type": "wav2vec2"} | _LAYER,
    "mms-1b-all": {"model_type": "wav2vec2", "adapter_attn_dim": 4} | _LAYER,
    "hubert-large-ls960-ft": {"model_type": "hubert"} | _LAYER,
    "wavlm-base": {"model_type": "wavlm", "num_buckets": 8, "max_bucket_distance": 16} | _GROUP,
    "wavlm-large": {"model_type": "wavlm", "num_buckets": 8, "max_bucket_distance": 16} | _LAYER,
    "unispeech-large": {"model_type": "unispeech"} | _LAYER,
    "unispeech-sat-large": {"model_type": "unispeech-sat"} | _LAYER,
    "wav2vec2-conformer-rel-pos-large": {"model_type": "wav2vec2-conformer", "position_embeddings_type": "relative"}
    | _LAYER,
    "data2vec-audio-base": {"model_type": "data2vec-audio"}
    | _LAYER
    | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5, "do_stable_layer_norm": False},
    "sew-tiny-100k": {"model_type": "sew"} | _GROUP | _SEW,
    "sew-d-tiny-100k": {"model_type": "sew-d", "max_position_embeddings": 64, "position_buckets": 8}
    | _GROUP
    | _SEW
    | {"hidden_act": "gelu", "pos_att_type": ["p2c", "c2p"]},
    "w2v-bert-2.0": {
        "model_type": "wav2vec2-bert",
        "feature_projection_input_dim": 160,
        "position_embeddings_type": "relative_key",
        "left_max_position_embeddings": 8,
        "right_max_position_embeddings": 4,
        "conv_depthwise_kernel_size": 5,
        "conformer_conv_dropout": 0.0,
    }
    | {key: value for key, value in _WAVE.items() if not key.startswith(("conv_", "num_conv"))},
    "parakeet-ctc-0.6b": {"model_type": "parakeet_ctc", "encoder_config": _FAST, "pad_token_id": len(PIECES) - 1},
    "medasr": {
        "model_type": "lasr_ctc",
        "encoder_config": _FAST | {"num_mel_bins": 128, "conv_kernel_size": 4, "head_dim": 8},
        "pad_token_id": len(PIECES) - 1,
    },
    "granite-speech-5.0": {
        "model_type": "granite_speech5_ctc",
        "encoder_config": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_mel_bins": 4,
            "context_size": 16,
            "max_position_embeddings": 32,
            "conv_kernel_size": 3,
            "vocab_size": len(PIECES),
        },
        "pad_token_id": len(PIECES) - 1,
    },
    "whisper-tiny": {
        "model_type": "whisper_ctc",
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "pad_token_id": 0,
    },
}
"""Settings by the published checkpoint that each stands for."""

PIECEWISE = ("parakeet-ctc-0.6b", "medasr", "granite-speech-5.0")  # they spell in pieces, as SentencePiece makes them
MASKED = {"wavlm-base"} | {name for name, one in CONFIGS.items() if one.get("feat_extract_norm") == "layer"}
UNLIKE = ("wav2vec2-base-960h", "hubert-large-ls960-ft", "w2v-bert-2.0", "parakeet-ctc-0.6b", "whisper-tiny")
"""As unlike each other as they come: for what does not hang on how a layer is built."""

LANGUAGES = {"eng": SYMBOLS, "deu": [*SYMBOLS, *"äöüß"]}


def _extractor(name: str) -> Any:
    made: Mapping[str, Callable[[], Any]] = {
        "w2v-bert-2.0": lambda: SeamlessM4TFeatureExtractor(padding_value=1),
        "parakeet-ctc-0.6b": lambda: ParakeetFeatureExtractor(feature_size=80),
        "medasr": LasrFeatureExtractor,
        "whisper-tiny": WhisperFeatureExtractor,
    }
    if name in made:
        return made[name]()
    # facebook/wav2vec2-base-960h and its like say `return_attention_mask: false`
    return Wav2Vec2FeatureExtractor(return_attention_mask=name in MASKED)


def write(folder: Path, name: str, **settings: Any) -> Path:
    """Write the checkpoint that stands for one of ``CONFIGS``, its config amended by ``settings``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, name, **settings)
    network = random(folder)
    network.save_pretrained(folder)
    if name != "granite-speech-5.0":  # its extractor needs torchaudio
        _extractor(name).save_pretrained(folder)
    _write_tokenizer(folder, name)
    if name == "mms-1b-all":
        _write_languages(folder, network)
    return folder


def write_config(folder: Path, name: str, **settings: Any) -> Path:
    """Write the config alone."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = PIECES if name in PIECEWISE else SYMBOLS
    text = json.dumps({"vocab_size": len(symbols)} | CONFIGS[name] | settings)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def random(folder: Path) -> PreTrainedModel:
    """Return transformers' own network of a folder's config, with weights large enough to tell one from another."""
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(7)
    network: PreTrainedModel = MODEL_FOR_CTC_MAPPING[type(config)](config).eval()
    for parameter_name, parameter in network.named_parameters():
        if parameter.dim() > 1 and parameter.requires_grad and "original" not in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def _write_tokenizer(folder: Path, name: str) -> None:
    if name in PIECEWISE:
        tokenizer = Tokenizer(Unigram([(piece, -float(len(piece) == 1)) for piece in PIECES], unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        ParakeetTokenizer(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
        return
    languages = LANGUAGES if name == "mms-1b-all" else {"": SYMBOLS}
    vocabulary: dict[str, Any] = {
        language: {symbol: index for index, symbol in enumerate(symbols)} for language, symbols in languages.items()
    }
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary.get("", vocabulary)), encoding="utf-8")
    language = "eng" if name == "mms-1b-all" else None
    Wav2Vec2CTCTokenizer(str(path), target_lang=language, do_lower_case=True).save_pretrained(folder)
    path.write_text(json.dumps(vocabulary.get("", vocabulary)), encoding="utf-8")


def _write_languages(folder: Path, network: Any) -> None:
    for number, (language, symbols) in enumerate(LANGUAGES.items()):
        torch.manual_seed(number)
        shapes = {name: list(weight.shape) for name, weight in network._get_adapters().items()}
        shapes["lm_head.weight"][0] = shapes["lm_head.bias"][0] = len(symbols)
        save_file(
            {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()},
            folder / f"adapter.{language}.safetensors",
        )
