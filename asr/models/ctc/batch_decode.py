"""Decodes clips with a CTC network: emissions in batches of like lengths, then each clip's transcript alone.

Legend: B clips, T positions of the encoder, V symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from asr.audio.features import Context
from asr.models.ctc.alignment import align_tokens, word_times
from asr.models.ctc.pauses import with_delimiters
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.segments import segments
from asr.models.ctc.text_rules import WORD_START
from asr.models.ctc.vocabulary import CtcVocabulary
from asr.scoring.repetition import compression_ratio
from asr.transcript import DecodingRequest, FeatureArray, Segment, Transcript

MAX_PADDED = 1.5  # frames of a batch for each one of its clips' own

Emissions = NDArray[np.float32]
"""Natural logarithms of the symbols' probabilities [T, V]."""


class CtcNetwork(Protocol):
    """A CTC network in whichever engine. ``max_batch_clips`` is how many clips it takes at a time."""

    @property
    def max_batch_clips(self) -> int: ...

    def logits(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [B, T, V] of what ``ClipFeatures.pad_batch`` makes."""


def transcribe_batch(
    network: CtcNetwork,
    processor: CtcProcessor,
    requests: Sequence[DecodingRequest],
    context: Context,
    language: str | None,
    size: int | None = None,
) -> list[Transcript]:
    """Transcribe clips, in their order; see ``asr.models.family.Family.transcribe``.

    ``language`` is that of a transcript whose request names none.
    """
    found = emissions(network, processor, [request.features for request in requests], context, size)
    return [
        _transcript(processor, request, logprobs_TV, language)
        for request, logprobs_TV in zip(requests, found, strict=True)
    ]


def emissions(
    network: CtcNetwork,
    processor: CtcProcessor,
    clips: Sequence[FeatureArray],
    context: Context,
    size: int | None = None,
) -> list[Emissions]:
    """Return the emissions of each clip at its own positions, in their order: batched or alone the same."""
    found: dict[int, Emissions] = {}
    features = processor.features
    most = size or network.max_batch_clips
    lengths = [features.padded_frames(clip.shape[1], context) for clip in clips]
    for batch in _batches(lengths, most, not features.hears_padding):
        logits_BTV = network.logits(features.pad_batch([clips[i] for i in batch], max(lengths[i] for i in batch)))
        for i, logits_TV in zip(batch, logits_BTV, strict=True):
            positions = processor.positions_of(lengths[i])
            found[i] = logits_TV[:positions].float().log_softmax(-1).cpu().numpy()
    return [found[i] for i in range(len(clips))]


def _batches(lengths: Sequence[int], size: int, mixed: bool) -> Iterator[list[int]]:
    """Yield the numbers of the clips of each batch: of like lengths if lengths may be ``mixed``, else of equal ones."""
    batch: list[int] = []
    own = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        length = lengths[index]
        padded = (len(batch) + 1) * length
        fits = padded <= MAX_PADDED * (own + length) if mixed else not batch or lengths[batch[0]] == length
        if batch and (len(batch) == size or not fits):
            yield batch
            batch, own = [], 0
        batch.append(index)
        own += length
    if batch:
        yield batch


def _transcript(
    processor: CtcProcessor, request: DecodingRequest, logprobs_TV: Emissions, language: str | None
) -> Transcript:
    vocabulary = processor.vocabulary
    if vocabulary.word_delimiter is not None:
        logprobs_TV = with_delimiters(logprobs_TV, vocabulary.blank, vocabulary.word_delimiter, processor.position_s)
    decoded = processor.decoder.decode(logprobs_TV, request.keywords)
    ids = [one for one in decoded if one not in vocabulary.silent]
    text = " ".join(vocabulary.decode(ids).split())
    spoken = request.language or language
    if not text:
        return Transcript("", (), spoken)
    told = Transcript(
        text=text,
        tokens=tuple(ids),
        language=spoken,
        segments=(Segment(0.0, request.features.shape[1] * processor.features.frame_s, text, tuple(ids)),),
        avg_logprob=_sureness(vocabulary, logprobs_TV),
        compression_ratio=compression_ratio(text),
    )
    return _timed(processor, told, request, logprobs_TV) if request.words or request.timestamps else told


def _sureness(vocabulary: CtcVocabulary, logprobs_TV: Emissions) -> float:
    """Return the mean log-probability of the positions that say something.

    The other positions are the most by far, and sure of themselves.
    """
    best_T = logprobs_TV.max(1)
    says_T = ~np.isin(logprobs_TV.argmax(1), [vocabulary.blank, *vocabulary.silent])
    return float(best_T[says_T].mean() if says_T.any() else best_T.mean())


def _timed(processor: CtcProcessor, told: Transcript, request: DecodingRequest, logprobs_TV: Emissions) -> Transcript:
    """Return a transcript with the times that are asked for."""
    vocabulary = processor.vocabulary
    symbols = [vocabulary.symbols[one] for one in told.tokens]
    spans = align_tokens(logprobs_TV, told.tokens, vocabulary.blank)
    words = word_times(symbols, spans, processor.position_s, len(logprobs_TV), told.language, vocabulary.delimiter)
    if request.timestamps:
        pieces = ["" if symbol == vocabulary.delimiter else symbol.replace(WORD_START, "") for symbol in symbols]
        told = replace(told, segments=segments(words, told.tokens, pieces))
    return replace(told, words=words) if request.words else told
