"""Token sequences around the text: the prompt that decoding starts from and the labels that training aims at.

One start-of-transcript, then language, task, timestamps flag, text, end: in this order, in training and in decoding.
With timestamps there is no flag; each segment's text stands between the times at which it starts and ends instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.segments import LabelledSegment
from asr.errors import DataError, UserError
from asr.language import NAMES, instead
from asr.transcript import Task, require_plain

if TYPE_CHECKING:
    from transformers import WhisperTokenizer

MAX_TOKENS = 448
MAX_PREVIOUS_TOKENS = MAX_TOKENS // 2 - 1  # of the text before, as in Whisper's own decoding
TIMESTAMP_S = 0.02  # one position of the encoder; the last token of the vocabulary stands for 30 s
_LAST_TIMESTAMP = 1500


def is_multilingual(tokenizer: WhisperTokenizer) -> bool:
    """Return whether the vocabulary is that of a multilingual checkpoint (the English-only one is a token shorter)."""
    return int(tokenizer.convert_tokens_to_ids("<|startoftranscript|>")) == 50258


def read_languages(folder: Path) -> frozenset[str] | None:
    """Return the codes that a checkpoint's generation config has tokens for; None where it does not tell them."""
    try:
        settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        if settings["is_multilingual"] is False:
            return frozenset({"en"})
        return frozenset(token.strip("<|>") for token in settings["lang_to_id"]) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def prompt_ids(
    tokenizer: WhisperTokenizer, language: str | None, task: Task = "transcribe", timestamps: bool = False
) -> list[int]:
    """Return start-of-transcript, language, task, no-timestamps; of these, English-only checkpoints know two.

    With ``timestamps`` the last one is left out. Raises UserError where the checkpoint does not know the language.
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
    unknown = language is not None and language not in NAMES
    if tokenizer.unk_token_id in ids or unknown:
        raise UserError(
            f"this checkpoint has no token for the language '{language}'",
            instead(language or "") if unknown else "choose a language that it knows",
        )
    return ids[:-1] if timestamps else ids


def text_ids(tokenizer: WhisperTokenizer, text: str) -> list[int]:
    """Return the tokens of a text, which starts with a space, as in the transcripts Whisper was trained on.

    Raises DataError for no text and for markup of Whisper's own in it, such as ``<|endoftext|>``: it would become a
    second start or end.
    """
    ids = list(tokenizer(spoken(text), add_special_tokens=False).input_ids)
    # Before Thaana, Thai and a few Latin words the space stays a token of its own, with which Whisper's decoding is
    # forbidden to begin a transcript: a label that began with it would teach what can never be said.
    lone_space = tokenizer.convert_tokens_to_ids("Ġ")
    return ids[1:] if len(ids) > 1 and ids[0] == lone_space else ids


def spoken(text: str) -> str:
    """Return a transcript as it is given to the tokenizer. Raises DataError as ``text_ids`` does."""
    words = text.strip()
    if not words:
        raise DataError("no_transcript")
    require_plain(words)
    return f" {words}"


def label_ids(tokenizer: WhisperTokenizer, text: str, prompt: Sequence[int]) -> list[int]:
    """Return prompt, text and end. Raises DataError as ``text_ids``, or for more than the decoder's 448 positions."""
    return _within([*prompt, *text_ids(tokenizer, text), tokenizer.eos_token_id])


def window_ids(tokenizer: WhisperTokenizer, segments: Sequence[LabelledSegment], prompt: Sequence[int]) -> list[int]:
    """Return prompt, segments and end, where the prompt was made with ``timestamps``.

    A segment is ``<|0.00|> its text<|2.40|>``, rounded to 0.02 s. Raises DataError as ``label_ids``.
    """
    first = int(tokenizer.convert_tokens_to_ids("<|notimestamps|>")) + 1  # <|0.00|>, which some exports do not name
    ids = list(prompt)
    for segment in segments:
        ids += [first + _steps(segment.start_s), *text_ids(tokenizer, segment.text), first + _steps(segment.end_s)]
    return _within([*ids, tokenizer.eos_token_id])


def previous_ids(tokenizer: WhisperTokenizer, text: str) -> list[int]:
    """Return ``<|startofprev|>`` and the last 223 tokens of the text before: these stand ahead of the prompt."""
    return [
        int(tokenizer.convert_tokens_to_ids("<|startofprev|>")),
        *text_ids(tokenizer, text)[-MAX_PREVIOUS_TOKENS:],
    ]


def _steps(time_s: float) -> int:
    return min(round(time_s / TIMESTAMP_S), _LAST_TIMESTAMP)


def _within(ids: list[int]) -> list[int]:
    if len(ids) > MAX_TOKENS:
        raise DataError("label_too_long", f"{len(ids)} tokens, the decoder has {MAX_TOKENS} positions")
    return ids
