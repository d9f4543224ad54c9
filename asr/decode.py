"""Features in, transcripts out: the one decoding function of evaluation, bulk transcription, endpoint and benchmarks.

Legend: B clips, M mel bins, T frames (10 ms each), L prompt tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from asr.features import FRAMES_PER_S, WINDOW_FRAMES, Context, pad
from asr.labels import Task, is_multilingual, prompt_ids
from asr.model import SpeechModel

# Frames of silence that a short context keeps behind a clip, and the step its length is rounded up to. The step makes
# a clip's context depend on the clip alone, never on what else is in its batch: batched or alone, the same words.
MARGIN_FRAMES = 50
STEP_FRAMES = FRAMES_PER_S


@dataclass(frozen=True)
class Clip:
    """What one clip asks of the decoder: features [M, T <= 3000], a language (None: detect it) and the task."""

    features: np.ndarray
    language: str | None = None
    task: Task = "transcribe"


@dataclass(frozen=True)
class Transcript:
    """What the decoder heard: the text, its tokens without prompt and end, and the language it was decoded in."""

    text: str
    tokens: tuple[int, ...]
    language: str | None


def context_frames(num_frames: int, context: Context) -> int:
    """Return how many frames the encoder sees for a clip of ``num_frames``."""
    if context == "full":
        return WINDOW_FRAMES
    return min(-(-(num_frames + MARGIN_FRAMES) // STEP_FRAMES) * STEP_FRAMES, WINDOW_FRAMES)


@torch.inference_mode()
def decode(model: SpeechModel, clips: Sequence[Clip], context: Context, max_batch_clips: int = 16) -> list[Transcript]:
    """Transcribe clips greedily, those of one context length together; the order of the results is that of the clips.

    Raises UserError where the model does not know a clip's language.
    """
    transcripts: dict[int, Transcript] = {}
    for indices, frames in _batches(clips, context, max_batch_clips):
        batch = [clips[i] for i in indices]
        transcripts.update(zip(indices, _decode_batch(model, batch, frames), strict=True))
    return [transcripts[i] for i in range(len(clips))]


def _batches(clips: Sequence[Clip], context: Context, size: int) -> Iterator[tuple[list[int], int]]:
    by_frames: dict[int, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        by_frames[context_frames(clip.features.shape[1], context)].append(index)
    for frames, indices in sorted(by_frames.items()):
        for start in range(0, len(indices), size):
            yield indices[start : start + size], frames


def _decode_batch(model: SpeechModel, clips: Sequence[Clip], frames: int) -> list[Transcript]:
    network = model.network
    features_BMT = torch.from_numpy(pad([clip.features for clip in clips], frames))
    features_BMT = features_BMT.to(network.device, network.dtype)
    encoded = network.model.encoder(features_BMT)
    languages = [clip.language for clip in clips]
    if is_multilingual(model.tokenizer) and None in languages:
        detected = _detect_languages(model, encoded)
        languages = [given or heard for given, heard in zip(languages, detected, strict=True)]
    prompts = [prompt_ids(model.tokenizer, lang, clip.task) for lang, clip in zip(languages, clips, strict=True)]
    prompt_BL = torch.tensor(prompts, device=network.device)
    # Whisper's own `generate` insists on 30 s of features; below it sits the generation loop of all models, which
    # takes encoder states of any length and applies the same suppression rules from the generation config.
    # The mask says that every encoder position counts, which no Whisper reads but the loop asks a batch for.
    ids = GenerationMixin.generate(
        network,
        encoder_outputs=encoded,
        attention_mask=torch.ones(encoded.last_hidden_state.shape[:2], device=network.device),
        decoder_input_ids=prompt_BL,
        do_sample=False,
    )
    end = model.tokenizer.eos_token_id
    rows = [[i for i in row if i != end] for row in ids[:, prompt_BL.shape[1] :].tolist()]
    texts = [str(model.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in rows]
    return [Transcript(text, tuple(row), lang) for text, row, lang in zip(texts, rows, languages, strict=True)]


def _detect_languages(model: SpeechModel, encoded: BaseModelOutput) -> list[str]:
    network, config = model.network, model.network.generation_config
    names, ids = zip(*config.lang_to_id.items(), strict=True)
    start = torch.full((encoded.last_hidden_state.shape[0], 1), config.decoder_start_token_id, device=network.device)
    logits = network(encoder_outputs=encoded, decoder_input_ids=start).logits[:, -1, list(ids)]
    return [names[i].strip("<|>") for i in logits.argmax(dim=-1).tolist()]
