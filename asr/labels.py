"""Token sequences around the text: the prompt that decoding starts from and the labels that training aims at.

One start-of-transcript, then language, task, timestamps flag, text, end: in this order, in training and in decoding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from transformers import WhisperTokenizer

from asr.errors import DataError, UserError
from asr.language import NAMES

Task = Literal["transcribe", "translate"]
IGNORED = -100
MAX_TOKENS = 448
_MARKUP = re.compile(r"<\|[\w.]*\|>")


def is_multilingual(tokenizer: WhisperTokenizer) -> bool:
    """Return whether the vocabulary is that of a multilingual checkpoint (the English-only one is a token shorter)."""
    return int(tokenizer.convert_tokens_to_ids("<|startoftranscript|>")) == 50258


def prompt_ids(tokenizer: WhisperTokenizer, language: str | None, task: Task = "transcribe") -> list[int]:
    """Return start-of-transcript, language, task, no-timestamps; of these, English-only checkpoints know two.

    Raises UserError where the checkpoint does not know the language.
    """
    tokens = ["<|startoftranscript|>", "<|notimestamps|>"]
    if is_multilingual(tokenizer):
        if language is None:
            raise UserError(
                "a multilingual checkpoint needs to be told the language", "set language, or lang in each row"
            )
        tokens[1:1] = [f"<|{language}|>", f"<|{task}|>"]
    elif language not in (None, "en") or task != "transcribe":
        raise UserError(
            f"this checkpoint transcribes English only, not '{language}'", "choose a multilingual checkpoint"
        )
    ids = [int(i) for i in tokenizer.convert_tokens_to_ids(tokens)]
    if tokenizer.unk_token_id in ids or (language is not None and language not in NAMES):
        raise UserError(
            f"this checkpoint has no token for the language '{language}'", "choose a language that it knows"
        )
    return ids


def label_ids(tokenizer: WhisperTokenizer, text: str, prompt: Sequence[int]) -> list[int]:
    """Return prompt, text and end. Raises DataError for no text, or more than the decoder's 448 positions.

    The text starts with a space, as in the transcripts Whisper was trained on. Markup of Whisper's own in it, such as
    ``<|endoftext|>``, is a DataError too: it would become a second start or end.
    """
    words = text.strip()
    if not words:
        raise DataError("no_transcript")
    if markup := _MARKUP.search(words):
        raise DataError("special_token", f"the transcript holds {markup.group()}")
    ids = [*prompt, *tokenizer(f" {words}", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    if len(ids) > MAX_TOKENS:
        raise DataError("label_too_long", f"{len(ids)} tokens, the decoder has {MAX_TOKENS} positions")
    return ids
