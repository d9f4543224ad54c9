"""Requests to the decoder and its answers: a clip of at most 30 s in, its transcript out.

Every engine takes the one and gives the other. Times are in seconds from the beginning of the clip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.printable import printable

Task = Literal["transcribe", "translate"]
FeatureArray: TypeAlias = NDArray[np.float16] | NDArray[np.float32]
"""Features of a clip [bins, frames]: spectra in float16, a waveform (one bin, samples for frames) in float32."""

MAX_KEYWORDS = 100
MAX_KEYWORD_CHARACTERS = 50

_JOINERS = {0x200C: None, 0x200D: None}  # within words of Persian and of India's languages, where nothing shows them
_MARKUP = re.compile(r"<\|[\w.]*\|>")


def require_plain(text: str) -> None:
    """Raise DataError special_token for markup such as ``<|endoftext|>``, which steers decoding."""
    if markup := _MARKUP.search(text):
        raise DataError("special_token", f"the text holds {markup.group()}")


def plain_keywords(words: Iterable[str]) -> tuple[str, ...]:
    """Return words and phrases to be expected, each once, in their order, without those that are empty.

    Raises DataError special_token for markup, bad_keywords for what is no plain text or too much of it.
    """
    keywords = tuple(dict.fromkeys(filter(None, (" ".join(word.split()) for word in words))))
    if len(keywords) > MAX_KEYWORDS:
        raise DataError("bad_keywords", f"there are {len(keywords):,}, and {MAX_KEYWORDS} are the limit")
    for keyword in keywords:
        if len(keyword) > MAX_KEYWORD_CHARACTERS:
            told = f"one has {len(keyword):,} characters, and {MAX_KEYWORD_CHARACTERS} are the limit"
            raise DataError("bad_keywords", told)
        if not keyword.translate(_JOINERS).isprintable() or not any(map(str.isalnum, keyword)):
            raise DataError("bad_keywords", f"'{printable(keyword)}' is no word")
        require_plain(keyword)
    return keywords


@dataclass(frozen=True)
class DecodingRequest:
    """One window's request to the decoder, with its features [bins, frames].

    ``language`` None: detect it. ``prompt``: words before the clip, or a spelling hint; its last 223 tokens stand
    behind ``<|startofprev|>``. ``temperature`` 0: greedy, and hotter where the result fails and the caller wants the
    fallback; above 0: sampled at that. ``timestamps``: text in segments with times of their own, else one segment.
    ``words``: times of each word. ``keywords``: words and phrases that are likelier than usual.
    """

    features: FeatureArray
    language: str | None = None
    task: Task = "transcribe"
    prompt: str = ""
    temperature: float = 0.0
    timestamps: bool = False
    words: bool = False
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Word:
    """A transcribed word, its text with the leading space where the language has them."""

    start_s: float
    end_s: float
    text: str
    probability: float = field(compare=False)  # as in Transcript


@dataclass(frozen=True)
class Segment:
    """A transcribed segment: its tokens are without times."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Transcript:
    """The decoder's transcript of one clip: at least one segment where there is text.

    ``tokens`` are those of the text, without prompt, times and end. ``avg_logprob`` is the natural logarithm of the
    probability, mean over the tokens of text and times, and the end. ``compression_ratio`` is that of the text's UTF-8
    by zlib. ``temperature`` is the one that it was decoded at. Two transcripts are equal that say the same:
    probabilities may differ in their last bits by what else was in the batch.
    """

    text: str
    tokens: tuple[int, ...]
    language: str | None
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    avg_logprob: float = field(default=0.0, compare=False)
    no_speech_prob: float = field(default=0.0, compare=False)
    compression_ratio: float = 1.0
    temperature: float = 0.0
