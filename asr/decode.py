"""Features in, transcripts out with torch: the one decoding function of evaluation, benchmarks and the torch engine.

Legend: B clips, M mel bins, T frames (10 ms each), S encoder positions (20 ms each), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import WhisperTokenizer

from asr.alignment import Line, align
from asr.clip import Clip, Transcript, Word
from asr.features import Context
from asr.generation import Found, Start, generate, whisper_of
from asr.hearing import MARGIN_FRAMES, MAX_BATCH_CLIPS, context_frames, hear
from asr.model import SpeechModel

__all__ = ["MARGIN_FRAMES", "Clip", "Context", "Transcript", "context_frames", "decode"]


def decode(
    model: SpeechModel,
    clips: Sequence[Clip],
    context: Context,
    max_batch_clips: int = MAX_BATCH_CLIPS,
    fallback: bool = False,
) -> list[Transcript]:
    """Transcribe clips, in their order; the arguments and what is raised are those of ``asr.hearing.hear``."""
    return hear(_TorchNetwork(model), clips, context, max_batch_clips, fallback)


@dataclass(frozen=True)
class _TorchNetwork:
    """A speech model as ``asr.hearing`` asks for it."""

    model: SpeechModel

    @property
    def tokenizer(self) -> WhisperTokenizer:
        return self.model.tokenizer

    @torch.inference_mode()
    def encode(self, features_BMT: np.ndarray) -> torch.Tensor:
        network = whisper_of(self.model.network)
        features = torch.from_numpy(features_BMT).to(network.device, network.dtype)
        encoded_BSD: torch.Tensor = network.model.encoder(features).last_hidden_state
        return encoded_BSD

    @torch.inference_mode()
    def languages(self, encoded: torch.Tensor, rows: Sequence[int]) -> list[str]:
        network = whisper_of(self.model.network)
        config = network.generation_config
        names, ids = zip(*config.lang_to_id.items(), strict=True)
        start_B1 = torch.full((len(rows), 1), config.decoder_start_token_id, device=encoded.device)
        hidden = network.model.decoder(
            input_ids=start_B1, encoder_hidden_states=_taken(encoded, rows), use_cache=False
        ).last_hidden_state
        likeliest = network.proj_out(hidden[:, -1])[:, list(ids)].argmax(dim=-1).tolist()
        return [names[best].strip("<|>") for best in likeliest]

    def generate(self, encoded: torch.Tensor, rows: Sequence[int], starts: Sequence[Start]) -> list[Found]:
        return generate(self.model, _taken(encoded, rows), starts)

    def align(self, encoded: torch.Tensor, rows: Sequence[int], lines: Sequence[Line]) -> list[tuple[Word, ...]]:
        return align(self.model, _taken(encoded, rows), lines)


def _taken(encoded_BSD: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    return encoded_BSD if list(rows) == list(range(len(encoded_BSD))) else encoded_BSD[list(rows)]
