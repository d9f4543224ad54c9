"""Aligns given text with a CTC network's emissions: the words of clips, and the segments of long recordings.

Legend: T positions of the encoder, V symbols.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from asr.errors import DataError
from asr.language import UNSPACED
from asr.models.alignment import AlignmentRequest, LeftOut, LongAlignment, SegmentLimits, SoundWindow, SpokenSegment
from asr.models.ctc.alignment import align_tokens, given_word_times, word_times
from asr.models.ctc.batch_decode import Emissions, emissions
from asr.models.ctc.long_alignment import EmissionBlock, SegmentSpan, align_long
from asr.models.ctc.long_text import Piece, labelled_segments, pieces
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.torch_backend import TorchEmitter
from asr.models.family import SpeechModel
from asr.transcript import Word

_AT_ONCE = 16  # windows whose emissions are in memory: 100 MB of an alphabet's, 500 MB of Chinese
_ROUNDING_S = 0.006


def align_clips(
    model: SpeechModel, processor: CtcProcessor, requests: Sequence[AlignmentRequest]
) -> list[tuple[Word, ...] | DataError]:
    """Return the words of clips with their times; see ``asr.models.family.Family.align``.

    Words are as they are given, whatever the vocabulary makes of them; in languages without spaces those of
    ``word_times``. Errors are those of ``CtcProcessor.usable``, or not_alignable.
    """
    results: dict[int, tuple[Word, ...] | DataError] = {}
    spelled: dict[int, _Spelling] = {}
    for number, request in enumerate(requests):
        try:
            spelled[number] = _spell(processor, request, request.language or model.language)
        except DataError as error:
            results[number] = error
    numbers = list(spelled)
    for first in range(0, len(numbers), _AT_ONCE):
        batch = numbers[first : first + _AT_ONCE]
        found = emissions(
            TorchEmitter(model.network), processor, [requests[number].features for number in batch], model.context
        )
        for number, logprobs_TV in zip(batch, found, strict=True):
            own = processor.positions_of(requests[number].features.shape[1])  # without the silence of the context
            results[number] = _aligned(processor, spelled[number], logprobs_TV[:own])
    return [results[number] for number in range(len(requests))]


def align_recording(
    model: SpeechModel, processor: CtcProcessor, windows: Iterable[SoundWindow], text: str, limits: SegmentLimits
) -> LongAlignment:
    """Cut a recording into segments; see ``asr.models.family.Family.align_long``.

    A piece of the text is left out as low_confidence, not_spoken, too_long, or for what ``CtcProcessor.usable`` raises
    of it. Raises DataError of that kind where the text has no other pieces, and not_alignable.
    """
    parts = pieces(text)
    ids, faults = _spell_pieces(processor, [text[part.start : part.end] for part in parts])
    if len(faults) == len(parts):
        raise faults.get(0, DataError("no_transcript"))
    blank, position_s = processor.vocabulary.blank, processor.position_s
    try:
        spans = align_long(_blocks(model, processor, windows), ids, blank, position_s)
    except ValueError as error:
        raise DataError("not_alignable", str(error)) from None
    segments = tuple(
        SpokenSegment(one.start_s, one.end_s, one.text, _confidence(spans, one.start_s, one.end_s))
        for one in labelled_segments(text, parts, spans, limits.max_s, limits.min_confidence)
    )
    left_out: list[LeftOut] = []
    for number, (part, span) in enumerate(zip(parts, spans, strict=True)):
        fault = faults.get(number) or _unsure(span, limits)
        if fault is not None:
            told = _told(text, part, span) + (f": {fault.detail}" if fault.detail else "")
            left_out.append(LeftOut(part.start, part.end, fault.reason, told))
    return LongAlignment(segments, tuple(left_out))


@dataclass(frozen=True)
class _Spelling:
    """A clip's symbols, and those of each word, without what is between two; no words in languages without spaces."""

    ids: list[int]
    words: list[tuple[str, list[str]]]
    language: str | None


def _spell(processor: CtcProcessor, request: AlignmentRequest, language: str | None) -> _Spelling:
    """Return the symbols of a clip's words. Raises DataError as ``CtcProcessor.usable``."""
    vocabulary = processor.vocabulary
    processor.usable(request.text)
    delimiter = vocabulary.word_delimiter
    language = language or vocabulary.rules.language
    ids: list[int] = []
    words: list[tuple[str, list[str]]] = []
    if language in UNSPACED or (delimiter is None and not vocabulary.is_subword):
        ids = vocabulary.encode(request.text)
    else:
        for text in request.text.split():
            own = vocabulary.encode(text)
            ids += [delimiter, *own] if ids and own and delimiter is not None else own
            words.append((text, [vocabulary.symbols[one] for one in own]))
    processor.require_positions(ids, processor.positions_of(request.features.shape[1]))
    return _Spelling(ids, words, language)


def _aligned(processor: CtcProcessor, spelled: _Spelling, logprobs_TV: Emissions) -> tuple[Word, ...] | DataError:
    vocabulary, positions = processor.vocabulary, len(logprobs_TV)
    try:
        spans = align_tokens(logprobs_TV, spelled.ids, vocabulary.blank)
    except ValueError as error:
        return DataError("not_alignable", str(error))
    if spelled.words:
        gap = 0 if vocabulary.word_delimiter is None else 1
        return given_word_times(spelled.words, gap, spans, processor.position_s, positions)
    symbols = [vocabulary.symbols[one] for one in spelled.ids]
    return word_times(symbols, spans, processor.position_s, positions, spelled.language, vocabulary.delimiter)


def _spell_pieces(processor: CtcProcessor, texts: Sequence[str]) -> tuple[list[list[int]], dict[int, DataError]]:
    """Return the symbols of each piece of a text, and the faults of those that have none."""
    ids: list[list[int]] = []
    faults: dict[int, DataError] = {}
    for number, text in enumerate(texts):
        try:
            processor.usable(text)
            ids.append(processor.vocabulary.encode(text))
        except DataError as error:
            faults[number] = error
            ids.append([])
    return ids, faults


def _blocks(model: SpeechModel, processor: CtcProcessor, windows: Iterable[SoundWindow]) -> Iterator[EmissionBlock]:
    """Yield the emissions of windows, without those of the silence behind each, which may be another's sound."""
    left = iter(windows)
    while batch := list(islice(left, _AT_ONCE)):
        found = emissions(TorchEmitter(model.network), processor, [window.features for window in batch], model.context)
        for window, logprobs_TV in zip(batch, found, strict=True):
            own = math.ceil((window.end_s - window.start_s) / processor.position_s - 1e-6)
            yield EmissionBlock(window.start_s, logprobs_TV[:own])


def _unsure(span: SegmentSpan | None, limits: SegmentLimits) -> DataError | None:
    """Return why a piece is in no segment, None for one that is."""
    if span is None:
        return DataError("not_spoken")
    if span.confidence < limits.min_confidence:
        return DataError("low_confidence", f"{span.confidence:.2f}, under {limits.min_confidence:g}")
    length_s = span.end_s - span.start_s
    return DataError("too_long", f"over {limits.max_s:g} s without a break") if length_s > limits.max_s else None


def _told(text: str, part: Piece, span: SegmentSpan | None) -> str:
    at = "" if span is None else f" at {span.start_s:.2f} to {span.end_s:.2f} s"
    words = " ".join(text[part.start : part.end].split())
    return f"'{words}'{at}"


def _confidence(spans: Sequence[SegmentSpan | None], start_s: float, end_s: float) -> float:
    """Return the confidence of the least sure piece in a stretch."""
    inside = (
        span.confidence
        for span in spans
        if span is not None and start_s - _ROUNDING_S <= span.start_s and span.end_s <= end_s + _ROUNDING_S
    )
    return min(inside)
