"""Tells text that repeats itself, as a decoder in a loop writes it, by how well it compresses.

The threshold is that of openai/whisper, where it is ``compression_ratio_threshold``.
"""

from __future__ import annotations

import zlib

MAX_COMPRESSION_RATIO = 2.4

# About what a model reads of a prompt, and its ratio at most: prose has up to 2.3, like phrases more, loops 20.
PROMPT_CHARACTERS = 1000
MAX_PROMPT_RATIO = 4.0


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes a text's UTF-8: speech about 1, a loop more with each round."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def is_loop(text: str) -> bool:
    """Return whether a text repeats itself, at least in what a model would read of it as its prompt."""
    return compression_ratio(text[-PROMPT_CHARACTERS:]) > MAX_PROMPT_RATIO
