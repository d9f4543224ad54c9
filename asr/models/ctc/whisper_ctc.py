"""Whisper's encoder with a linear head for CTC: the ``whisper_ctc`` of a config.json, registered on import.

Legend: B rows, T encoder positions (20 ms each), V symbols.
"""

from __future__ import annotations

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModelForCTC, WhisperConfig, WhisperPreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from asr.models.any_context_encoder import AnyContextEncoder

MODEL_TYPE = "whisper_ctc"


@strict
class WhisperCtcConfig(WhisperConfig):
    """Whisper's config, of which the decoder's part is not used. ``pad_token_id`` is the blank, as in wav2vec 2.0."""

    model_type = MODEL_TYPE
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None


class _Inner(nn.Module):
    """The encoder under the name that it has in Whisper's checkpoints."""

    def __init__(self, config: WhisperCtcConfig) -> None:
        super().__init__()
        self.encoder = AnyContextEncoder(config)


class WhisperForCTC(WhisperPreTrainedModel):
    """Whisper's encoder and a linear head, ``lm_head``. Its weights lie in a Whisper's checkpoint, but the head's."""

    config_class = WhisperCtcConfig
    _keys_to_ignore_on_load_unexpected = (r"^(model\.)?decoder\.", r"^proj_out\.")

    def __init__(self, config: WhisperCtcConfig) -> None:
        super().__init__(config)
        self.model = _Inner(config)
        self.dropout = nn.Dropout(config.dropout)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution: PEFT has its output ask for gradients where activations are computed again."""
        first: nn.Module = self.model.encoder.conv1
        return first

    def forward(self, input_features: torch.Tensor, **kwargs: object) -> CausalLMOutput:
        """Return ``logits`` [B, T, V] of features [B, mel bins, frames], an even number of frames up to 30 s."""
        hidden = self.model.encoder(input_features).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(self.dropout(hidden)))


AutoConfig.register(MODEL_TYPE, WhisperCtcConfig, exist_ok=True)
AutoModelForCTC.register(WhisperCtcConfig, WhisperForCTC, exist_ok=True)
