"""Decodes clips to transcripts with any backend: languages, temperature fallback, segments and words.

Legend: B clips, M mel bins, T frames (10 ms each).
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperTokenizer

from asr.audio.features import FRAMES_PER_S, TAIL_FRAMES, Context, context_frames, pad
from asr.models.whisper import fallback
from asr.models.whisper.alignment import AlignmentTarget
from asr.models.whisper.generation import DecoderPrompt, Hypothesis, Vocabulary
from asr.models.whisper.tokens import TIMESTAMP_S, is_multilingual, previous_ids, prompt_ids
from asr.scoring.repetition import compression_ratio, is_loop
from asr.transcript import DecodingRequest, Segment, Transcript, Word

# Clips that are decoded together. A GPU is hardly busier with 64 than with 16: `python -m benchmarks.decoding` found
# 51, 137 and 200 audio s/s at 16, 64 and 256 short clips on an H200. How many seconds of audio there are at once is up
# to who asks.
MAX_BATCH_CLIPS = {"cpu": 16, "cuda": 128}

MAX_PROMPTS = 64  # of each model, whose tokens are kept
_PROMPTS: WeakKeyDictionary[WhisperTokenizer, Callable[[str], tuple[int, ...]]] = WeakKeyDictionary()

# Of a network that overflows, or a token drawn that has no probability: what is not a number fails every comparison,
# and JSON cannot say it.
LEAST_LOGPROB = -100.0

# Clips of several contexts share a decoding loop, which costs a GPU nearly the same for one as for many, and a CPU the
# reading of all weights at each step. Their encoder states are padded for it, to at most so many times what they are.
MAX_PADDED = 2.0


E = TypeVar("E")  # what a network makes of sound


class DecoderBackend(Protocol[E]):
    """A Whisper network that decodes. Only the backend reads the result of its ``encode``; callers name its rows."""

    @property
    def tokenizer(self) -> WhisperTokenizer:
        """The checkpoint's tokenizer."""

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""

    @property
    def joins_contexts(self) -> bool:
        """Return whether clips of several context lengths can be decoded together."""

    def encode(self, features: Sequence[NDArray[np.float32]], clips: Sequence[int]) -> E:
        """Run the encoder on float32 features [B, M, T], an array for each context length; one if it joins none.

        ``clips`` has, for each row, the index of its clip among all that are decoded.
        """

    def languages(self, encoded: E, rows: Sequence[int]) -> list[str]:
        """Return the likeliest language of each row, as a code. Multilingual checkpoints only."""

    def generate(self, encoded: E, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
        """Decode each row from its own start, whatever the others' are."""

    def align(self, encoded: E, rows: Sequence[int], lines: Sequence[AlignmentTarget]) -> list[tuple[Word, ...]]:
        """Return the words of each row's line with their times."""


def transcribe_batch(
    network: DecoderBackend[E],
    clips: Sequence[DecodingRequest],
    context: Context,
    max_batch_clips: int | None = None,
    fallback: bool = False,
) -> list[Transcript]:
    """Transcribe clips in batches of like context lengths; the order of the results is that of the clips.

    At most ``max_batch_clips`` are decoded at a time; None: ``MAX_BATCH_CLIPS`` of the network's device.

    With ``fallback`` a transcript must pass ``asr.models.whisper.fallback``: what fails at temperature 0 is decoded
    again, hotter, and what is no speech comes back empty. Without it, as models are compared, every clip gets what it
    gets at first. Raises UserError where the model does not know a clip's language, DataError for markup in its prompt.
    """
    transcripts: dict[int, Transcript] = {}
    size = max_batch_clips or MAX_BATCH_CLIPS[network.device_type]
    lengths = [context_frames(clip.features.shape[1], context) for clip in clips]
    for groups in (_joined if network.joins_contexts else _apart)(lengths, size):
        indices = [index for group in groups for index in group]
        features = [pad([clips[i].features for i in group], lengths[group[0]]) for group in groups]
        batch = _Batch(network, [clips[i] for i in indices], network.encode(features, indices))
        transcripts.update(zip(indices, batch.transcripts(fallback), strict=True))
    return [transcripts[i] for i in range(len(clips))]


def _apart(lengths: Sequence[int], size: int) -> Iterator[list[list[int]]]:
    """Yield batches of clips of one context length each: a list of one group of their numbers."""
    for group in _grouped(range(len(lengths)), lengths):
        for start in range(0, len(group), size):
            yield [group[start : start + size]]


def _joined(lengths: Sequence[int], size: int) -> Iterator[list[list[int]]]:
    """Yield batches of clips of like context lengths, those of each length in a group, the shortest first."""
    batch: list[int] = []
    own = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        padded = (len(batch) + 1) * lengths[index]
        if batch and (len(batch) == size or padded > MAX_PADDED * (own + lengths[index])):
            yield _grouped(batch, lengths)
            batch, own = [], 0
        batch.append(index)
        own += lengths[index]
    if batch:
        yield _grouped(batch, lengths)


def _grouped(indices: Iterable[int], lengths: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        groups[lengths[index]].append(index)
    return [groups[length] for length in sorted(groups)]


class _Batch(Generic[E]):
    """Clips that are decoded together, encoded once, with the language of each."""

    def __init__(self, network: DecoderBackend[E], clips: Sequence[DecodingRequest], encoded: E) -> None:
        self._network = network
        self._encoded = encoded
        self._clips = self._with_languages(clips)

    def transcripts(self, fallback: bool) -> list[Transcript]:
        """Decode, again where that is wanted and needed, and align what asks for words."""
        transcripts = self._decode(range(len(self._clips)), self._clips)
        return self._with_words(self._improved(transcripts) if fallback else transcripts)

    def _with_languages(self, clips: Sequence[DecodingRequest]) -> list[DecodingRequest]:
        unknown = [i for i, clip in enumerate(clips) if clip.language is None]
        if not unknown or not is_multilingual(self._network.tokenizer):
            return list(clips)
        detected = dict(zip(unknown, self._network.languages(self._encoded, unknown), strict=True))
        return [replace(clip, language=detected.get(i, clip.language)) for i, clip in enumerate(clips)]

    def _decode(self, rows: Sequence[int], clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Decode each clip once, at its own temperature."""
        tokenizer = self._network.tokenizer
        found = self._network.generate(self._encoded, rows, [start_of(tokenizer, clip) for clip in clips])
        return [transcript_of(tokenizer, clip, one) for clip, one in zip(clips, found, strict=True)]

    def _improved(self, transcripts: Sequence[Transcript]) -> list[Transcript]:
        """Decode again, hotter and hotter, what was decoded at temperature 0 and fails; empty what is no speech."""
        attempts = [[transcript] for transcript in transcripts]
        for temperature in fallback.TEMPERATURES:
            failed = [
                i for i, clip in enumerate(self._clips) if clip.temperature == 0 and fallback.fails(attempts[i][-1])
            ]
            if not failed:
                break
            again = self._decode(failed, [_hotter(self._clips[i], temperature) for i in failed])
            for i, transcript in zip(failed, again, strict=True):
                attempts[i].append(transcript)
        return [fallback.without_silence(fallback.best(each)) for each in attempts]

    def _with_words(self, transcripts: Sequence[Transcript]) -> list[Transcript]:
        rows = [i for i, clip in enumerate(self._clips) if clip.words and transcripts[i].tokens]
        if not rows:
            return list(transcripts)
        lines = [_line(self._network.tokenizer, self._clips[i], transcripts[i]) for i in rows]
        words = dict(zip(rows, self._network.align(self._encoded, rows, lines), strict=True))
        return [replace(transcript, words=words.get(i, ())) for i, transcript in enumerate(transcripts)]


def _hotter(clip: DecodingRequest, temperature: float) -> DecodingRequest:
    """Return a clip as it is decoded again: a prompt that repeats itself would make each attempt a loop to its end."""
    return replace(clip, temperature=temperature, prompt="" if is_loop(clip.prompt) else clip.prompt)


def duration_s(clip: DecodingRequest) -> float:
    """Return how long a clip is, within 10 ms: its features end with frames of the silence behind it."""
    return max(int(clip.features.shape[1]) - TAIL_FRAMES, 1) / FRAMES_PER_S


def start_of(tokenizer: WhisperTokenizer, clip: DecodingRequest) -> DecoderPrompt:
    """Return what decoding a clip starts from. Raises UserError and DataError as ``transcribe_batch`` does."""
    previous = _previous(tokenizer, clip.prompt) if clip.prompt.strip() else ()
    prompt = prompt_ids(tokenizer, clip.language, clip.task, clip.timestamps)
    # The seed is what the clip is and asks, so that it draws the same words in whatever batch.
    seed = f"{hashlib.sha256(clip.features.tobytes()).hexdigest()} {clip.temperature}" if clip.temperature else ""
    return DecoderPrompt((*previous, *prompt), len(previous), clip.timestamps, clip.temperature, seed)


def _previous(tokenizer: WhisperTokenizer, prompt: str) -> tuple[int, ...]:
    """Return the tokens of a prompt, which are the same for each window of a request, and each time it is decoded."""
    known = _PROMPTS.get(tokenizer)
    if known is None:
        itself = weakref.proxy(tokenizer)  # what is known of a model goes with it
        known = _PROMPTS[tokenizer] = lru_cache(MAX_PROMPTS)(lambda text: tuple(previous_ids(itself, text)))
    return known(prompt)


def transcript_of(tokenizer: WhisperTokenizer, clip: DecodingRequest, found: Hypothesis) -> Transcript:
    """Return what the tokens that were found for a clip say, without words' times."""
    vocabulary = Vocabulary.of(tokenizer)
    tokens = tuple(token for token in found.tokens if token < vocabulary.end)
    text = _text(tokenizer, tokens)
    return Transcript(
        text=text,
        tokens=tokens,
        language=clip.language,
        segments=tuple(_segments(tokenizer, clip, found.tokens, vocabulary)) if text else (),
        avg_logprob=found.avg_logprob if math.isfinite(found.avg_logprob) else LEAST_LOGPROB,
        no_speech_prob=found.no_speech_prob if math.isfinite(found.no_speech_prob) else 0.0,
        compression_ratio=compression_ratio(text),
        temperature=clip.temperature,
    )


def _line(tokenizer: WhisperTokenizer, clip: DecodingRequest, transcripts: Transcript) -> AlignmentTarget:
    prompt = tuple(prompt_ids(tokenizer, clip.language, clip.task))
    return AlignmentTarget(
        prompt, transcripts.tokens, duration_s(clip), "en" if clip.task == "translate" else clip.language
    )


def _text(tokenizer: WhisperTokenizer, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def _segments(
    tokenizer: WhisperTokenizer, clip: DecodingRequest, tokens: Sequence[int], vocabulary: Vocabulary
) -> Iterator[Segment]:
    """Yield what stands between times; what has no end time lasts to the clip's end."""
    end_s = duration_s(clip)
    start_s, spoken = 0.0, list[int]()
    for token in (*tokens, None):
        if token is not None and (token < vocabulary.first_time or not clip.timestamps):
            spoken += [token] if token < vocabulary.end else []
            continue
        time_s = end_s if token is None else min((token - vocabulary.first_time) * TIMESTAMP_S, end_s)
        if text := _text(tokenizer, spoken):
            yield Segment(start_s, time_s, text, tuple(spoken))
        start_s, spoken = round(time_s, 2), []
