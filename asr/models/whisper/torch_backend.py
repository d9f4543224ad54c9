"""Torch backend: the one decoding function of evaluation, benchmarks and the torch engine.

Legend: B clips, M mel bins, T frames (10 ms each), S encoder positions (20 ms each), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperTokenizer

from asr.audio.features import Context
from asr.models.family import SpeechModel
from asr.models.inference_mode import inference_mode
from asr.models.whisper.alignment import AlignmentTarget, align
from asr.models.whisper.batch_decode import transcribe_batch
from asr.models.whisper.generation import DecoderPrompt, Hypothesis, generate, whisper_of
from asr.models.whisper.multi_lora import row_adapters
from asr.transcript import DecodingRequest, Transcript, Word


def decode(
    model: SpeechModel,
    clips: Sequence[DecodingRequest],
    context: Context,
    max_batch_clips: int | None = None,
    fallback: bool = False,
    adapters: Sequence[str] = (),
) -> list[Transcript]:
    """Transcribe clips, in their order; arguments and what is raised are those of ``transcribe_batch``.

    ``adapters`` are those of a ``multi_lora.SharedBase``, one for each clip, where ``model`` comes from there.
    """
    return transcribe_batch(TorchNetwork(model, adapters), clips, context, max_batch_clips, fallback)


@dataclass(frozen=True)
class _Encoded:
    """Encoder states [B, S, D], what hides padding behind them, and the adapter of each row, if there are any."""

    states_BSD: torch.Tensor
    mask_B11S: torch.Tensor | None
    adapters: Sequence[str]

    def taken(self, rows: Sequence[int]) -> _Encoded:
        """Return these rows of it."""
        if list(rows) == list(range(len(self.states_BSD))):
            return self
        mask_B11S = None if self.mask_B11S is None else self.mask_B11S[list(rows)]
        return _Encoded(
            self.states_BSD[list(rows)], mask_B11S, [self.adapters[row] for row in rows] if self.adapters else ()
        )


@dataclass(frozen=True)
class TorchNetwork:
    """A speech model as ``asr.models.whisper.batch_decode`` asks for it."""

    model: SpeechModel
    adapters: Sequence[str] = ()

    joins_contexts = True

    @property
    def tokenizer(self) -> WhisperTokenizer:
        return self.model.tokenizer

    @property
    def device_type(self) -> str:
        return str(whisper_of(self.model.network).device.type)

    @inference_mode
    def encode(self, features: Sequence[NDArray[np.float32]], clips: Sequence[int]) -> _Encoded:
        from asr.models.whisper.network import pad_encoder_states  # transformers' networks come with it

        network = whisper_of(self.model.network)
        adapters = [self.adapters[clip] for clip in clips] if self.adapters else ()
        states, row = [], 0
        for features_BMT in features:
            with row_adapters(adapters[row : row + len(features_BMT)]):
                sound = torch.from_numpy(features_BMT).to(network.device, network.dtype)
                states.append(network.model.encoder(sound).last_hidden_state)
            row += len(features_BMT)
        return _Encoded(*pad_encoder_states(states), adapters)

    @inference_mode
    def languages(self, encoded: _Encoded, rows: Sequence[int]) -> list[str]:
        from asr.models.whisper.network import cross_attention_mask

        network, taken = whisper_of(self.model.network), encoded.taken(rows)
        config = network.generation_config
        names, ids = zip(*config.lang_to_id.items(), strict=True)
        start_B1 = torch.full((len(rows), 1), config.decoder_start_token_id, device=taken.states_BSD.device)
        with row_adapters(taken.adapters), cross_attention_mask(network, lambda: taken.mask_B11S):
            hidden = network.model.decoder(
                input_ids=start_B1, encoder_hidden_states=taken.states_BSD, use_cache=False
            ).last_hidden_state
        likeliest = network.proj_out(hidden[:, -1])[:, list(ids)].argmax(dim=-1).tolist()
        return [names[best].strip("<|>") for best in likeliest]

    def generate(self, encoded: _Encoded, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
        taken = encoded.taken(rows)
        return generate(self.model, taken.states_BSD, starts, taken.adapters, taken.mask_B11S)

    def align(self, encoded: _Encoded, rows: Sequence[int], lines: Sequence[AlignmentTarget]) -> list[tuple[Word, ...]]:
        from asr.models.whisper.network import cross_attention_mask

        network, taken = whisper_of(self.model.network), encoded.taken(rows)
        with row_adapters(taken.adapters), cross_attention_mask(network, lambda: taken.mask_B11S):
            return align(self.model, taken.states_BSD, lines)
