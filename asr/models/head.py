"""New heads: what makes a checkpoint's encoder a model of the characters that some transcripts are written in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from asr.config import Section
from asr.io.cache import cache_root, complete_or_absent
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.places import ModelPlace

NETWORK = "config.json"
"""The file that describes a network; beside an adapter it is there where that has another head than its base."""

MOST_WEIGHT = 1000
"""Beyond it a language model's weight, or its bonus of a word, outweighs any sound."""

HeadFiles = tuple[tuple[str, bytes], ...]
"""The small files of a network with a new head: names and contents of config, tokenizer and feature extractor."""


class HeadSettings(Section):
    """The symbols of a CTC model, and how transcripts are spelled with them."""

    vocabulary: Literal["auto", "transcripts", "checkpoint"] = "auto"
    """Source of the symbols: the training transcripts, or the checkpoint's own; auto: its own if it has any."""
    target_language: str | None = None
    """Language of a checkpoint that has an adapter and a vocabulary for each of many (MMS), by its code: ``div``."""
    casing: Literal["keep", "lower", "upper"] = "keep"
    """Letter case of the transcripts that are learnt."""
    punctuation: Literal["keep", "drop"] = "keep"
    """Whether marks between words are learnt. Apostrophes and hyphens inside a word are always kept."""
    unit: Literal["character", "subword"] = "character"
    """What a symbol spells."""
    subwords: int = Field(500, ge=50, le=20_000)
    """Size of a vocabulary of subwords."""
    language_model: ModelPlace = "auto"
    """``transcripts``: n-grams of the training transcripts, by which the artifact decodes; ``none``; or an ARPA file
    of words, such as KenLM writes. auto: those of the transcripts, but none where they are a stream."""
    language_weight: float = Field(0.7, ge=0.0, le=MOST_WEIGHT, allow_inf_nan=False)
    """Weight of the language model against the sound."""
    word_bonus: float = Field(1.0, ge=-MOST_WEIGHT, le=MOST_WEIGHT, allow_inf_nan=False)
    """Bonus of a word in decoding by the language model, which alone would favour short texts."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> HeadSettings:
        fields = type(self).model_fields
        changed = {name for name in fields if getattr(self, name) != fields[name].default}
        if "subwords" in changed and self.unit == "character":
            raise ValueError("subwords needs unit=subword")
        if self.language_model == "none" and (idle := sorted(changed & {"language_weight", "word_bonus"})):
            raise ValueError(f"{idle[0]} needs a language model: language_model is none")
        return self

    @property
    def is_own_language_model(self) -> bool:
        """True if the language model is a file of the user's."""
        return self.language_model not in ("auto", "transcripts", "none")

    def has_language_model(self, transcripts_known: bool) -> bool:
        """Return whether an artifact gets n-grams; those of a stream's transcripts are not known."""
        return self.is_own_language_model or (self.language_model != "none" and transcripts_known)


@dataclass(frozen=True)
class InitialModel:
    """The model that training starts from: the checkpoint ``name``, with a new head where ``head`` has its files."""

    name: str
    head: HeadFiles = ()

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint, with its new head. Raises UserError as ``find_checkpoint`` does."""
        base = find_checkpoint(self.name)
        return with_head(base, self.head) if self.head else base


def with_head(base: Checkpoint, head: HeadFiles) -> Checkpoint:
    """Return a checkpoint whose folder, in the cache, holds the files of a head; the weights stay in the base's."""
    digest = hashlib.sha256(base.digest.encode())
    for name, content in head:
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    folder = cache_root() / "heads" / digest.hexdigest()[:16]
    if not folder.is_dir():
        with complete_or_absent(folder) as draft:
            for name, content in head:
                (draft / name).write_bytes(content)
    return on_base(base, folder)


def on_base(base: Checkpoint, folder: Path) -> Checkpoint:
    """Return the checkpoint with the network that a folder describes, and the weights of its base."""
    return replace(base, folder=folder, base=base.weights)
