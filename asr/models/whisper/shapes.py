"""The shape of each Whisper size, and the weights that follow from it.

Parameter counts are computed, not copied: the tests hold them against transformers' own model of every size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UserError
from asr.models.capacity import ActivationSegment, Linear, TrainingStep
from asr.models.whisper.activations import KERNEL, segments

_KEYS = {
    "mels": "num_mel_bins",
    "width": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "hidden": "encoder_ffn_dim",
    "vocabulary": "vocab_size",
    "encoder_positions": "max_source_positions",
    "decoder_positions": "max_target_positions",
}
_DECODERS = {"heads": "decoder_attention_heads", "hidden": "decoder_ffn_dim"}
_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class NetworkShape:
    """Size of a Whisper by its config.json; heads and feed-forward width are the same in both halves."""

    mels: int
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    hidden: int
    vocabulary: int
    encoder_positions: int = 1500
    decoder_positions: int = 448

    @property
    def attention(self) -> tuple[Linear, ...]:
        """The linear layers of one attention block."""
        return tuple(
            Linear(name, self.width, self.width, bias=name != "k_proj")  # only key projections have none
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        )

    @property
    def feed_forward(self) -> tuple[Linear, ...]:
        """The linear layers of one feed-forward block."""
        return Linear("fc1", self.width, self.hidden), Linear("fc2", self.hidden, self.width)

    @property
    def encoder_layer(self) -> tuple[Linear, ...]:
        """The linear layers of an encoder layer."""
        return self.attention + self.feed_forward

    @property
    def decoder_layer(self) -> tuple[Linear, ...]:
        """The linear layers of a decoder layer, which attends to itself and to the encoder."""
        return self.attention + self.attention + self.feed_forward

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers, without the projection to the vocabulary."""
        return self.encoder_layer * self.encoder_layers + self.decoder_layer * self.decoder_layers

    @property
    def encoder_layer_parameters(self) -> int:
        """Weights of an encoder layer, with its two normalisations."""
        return sum(linear.parameters for linear in self.encoder_layer) + 2 * self.norm_parameters

    @property
    def decoder_layer_parameters(self) -> int:
        """Weights of a decoder layer, with its three normalisations."""
        return sum(linear.parameters for linear in self.decoder_layer) + 3 * self.norm_parameters

    @property
    def norm_parameters(self) -> int:
        """Weights of one layer normalisation."""
        return 2 * self.width

    @property
    def stem_parameters(self) -> int:
        """Weights of the two convolutions."""
        return (self.mels + self.width) * self.width * KERNEL + 2 * self.width

    @property
    def embedding_parameters(self) -> int:
        """Token embeddings, which also project to the vocabulary, and the decoder's positions."""
        return (self.vocabulary + self.decoder_positions) * self.width

    @property
    def sinusoids(self) -> int:
        """The encoder's positions, never trained."""
        return self.encoder_positions * self.width

    @property
    def encoder_parameters(self) -> int:
        """The number of the encoder's weights."""
        layers = self.encoder_layers * self.encoder_layer_parameters
        return self.stem_parameters + self.sinusoids + layers + self.norm_parameters

    @property
    def decoder_parameters(self) -> int:
        """The number of the decoder's weights."""
        return self.embedding_parameters + self.decoder_layers * self.decoder_layer_parameters + self.norm_parameters

    @property
    def parameters(self) -> int:
        """The number of all weights."""
        return self.encoder_parameters + self.decoder_parameters

    @property
    def gathered(self) -> int:
        """Two layers, or the token embeddings, the largest single weight."""
        layers = 2 * max(self.encoder_layer_parameters, self.decoder_layer_parameters)
        return max(layers, self.embedding_parameters)

    @property
    def max_positions(self) -> int:
        """The encoder's."""
        return self.encoder_positions

    @property
    def max_tokens(self) -> int:
        """The decoder's."""
        return self.decoder_positions

    def trained_parameters(self, step: TrainingStep) -> int:
        """Return the weights that the optimiser changes. The encoder's sinusoids are never among them."""
        own = (self.encoder_parameters - self.sinusoids) * step.trains_encoder
        adapters = sum(step.adapter_parameters(linear) for linear in self.linears)
        return own + self.decoder_parameters * step.trains_decoder + adapters

    def segments(self, step: TrainingStep) -> tuple[ActivationSegment, ...]:
        """Return convolutions, encoder layers, embeddings, decoder layers, loss."""
        return segments(self, step)

    @property
    def config(self) -> dict[str, int]:
        """Arguments of WhisperConfig for an untrained network of this shape, where token 0 is every special one."""
        keys = [*_KEYS.items(), *_DECODERS.items()]
        return {theirs: getattr(self, ours) for ours, theirs in keys} | dict.fromkeys(_SPECIAL, 0)


def _size(
    width: int, encoder_layers: int, decoder_layers: int, mels: int = 80, vocabulary: int = 51865
) -> NetworkShape:
    return NetworkShape(mels, width, encoder_layers, decoder_layers, width // 64, 4 * width, vocabulary)


_MULTILINGUAL = {"tiny": (384, 4, 4), "base": (512, 6, 6), "small": (768, 12, 12), "medium": (1024, 24, 24)}

# https://github.com/openai/whisper#available-models-and-languages, https://github.com/huggingface/distil-whisper
SIZES: Mapping[str, NetworkShape] = {
    **{f"openai/whisper-{name}": _size(*numbers) for name, numbers in _MULTILINGUAL.items()},
    **{f"openai/whisper-{name}.en": _size(*numbers, vocabulary=51864) for name, numbers in _MULTILINGUAL.items()},
    "openai/whisper-large": _size(1280, 32, 32),
    "openai/whisper-large-v2": _size(1280, 32, 32),
    "openai/whisper-large-v3": _size(1280, 32, 32, mels=128, vocabulary=51866),
    "openai/whisper-large-v3-turbo": _size(1280, 32, 4, mels=128, vocabulary=51866),
    "distil-whisper/distil-small.en": _size(768, 12, 4, vocabulary=51864),
    "distil-whisper/distil-medium.en": _size(1024, 24, 2, vocabulary=51864),
    "distil-whisper/distil-large-v2": _size(1280, 32, 2),
    "distil-whisper/distil-large-v3": _size(1280, 32, 2, mels=128, vocabulary=51866),
    "distil-whisper/distil-large-v3.5": _size(1280, 32, 2, mels=128, vocabulary=51866),
}


def read_shape(config: Path) -> NetworkShape:
    """Return the shape that a transformers config.json describes. Raises UserError where it describes none."""
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        sizes = {ours: int(found[theirs]) for ours, theirs in _KEYS.items()}
        if wrong := [_KEYS[ours] for ours, size in sizes.items() if size < 1]:
            raise ValueError(f"{wrong[0]} is below 1")
        return NetworkShape(**sizes)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{config}: does not tell the size of a Whisper ({type(error).__name__}: {error})",
            "plan reads a checkpoint in transformers' layout, or knows it by its hub id",
        ) from None
