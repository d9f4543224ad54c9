"""Whisper's encoder on the frames there are, instead of always on 30 s. More than one family builds upon it."""

from __future__ import annotations

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder


class AnyContextEncoder(WhisperEncoder):
    """The encoder over the first positions: [batch, mel bins, frames] -> [batch, frames / 2, width].

    Transformers' own forward refuses anything but 3000 frames. With 3000 frames both compute the same.
    """

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: object
    ) -> BaseModelOutput:
        """Encode an even number of frames, up to twice ``max_source_positions``; ValueError for more."""
        if input_features.shape[-1] > 2 * self.max_source_positions:  # on a GPU the lookup below would kill the process
            raise ValueError(f"{input_features.shape[-1]} frames do not fit: at most {2 * self.max_source_positions}")
        hidden = nn.functional.gelu(self.conv1(input_features))
        hidden = nn.functional.gelu(self.conv2(hidden)).permute(0, 2, 1)
        # The module is called, not its weight sliced: under ZeRO-3 a weight is whole only inside its module's forward.
        hidden = hidden + self.embed_positions(torch.arange(hidden.shape[1], device=hidden.device))
        hidden = nn.functional.dropout(hidden, p=self.dropout, training=self.training)
        for layer in self.layers:
            if self.training and self.layerdrop > 0.0 and torch.rand([]).item() < self.layerdrop:
                continue
            hidden = layer(hidden, None)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))
