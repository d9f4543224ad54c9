"""Filters for labelled clips: limits on length, characters and speaking rate."""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field, model_validator

from asr.audio.limits import AudioLimits
from asr.config import Section
from asr.errors import DataError


class Filters(Section):
    """Limits on a clip and its transcript; each reason in the quarantine table belongs to one of these."""

    min_audio_s: float = Field(0.2, ge=0)
    """Shorter clips are quarantined as too_short."""
    max_audio_s: float = Field(30.0, gt=0, le=30.0)
    """Longer clips are quarantined as too_long; a model's window is 30 s at most."""
    min_chars: int = Field(1, ge=1)
    """Transcripts of fewer characters are quarantined as too_few_characters."""
    allowed_characters: str | None = None
    """Inside of a regular expression's brackets, for example "a-zàèéìòù' ": a transcript with any other character is
    quarantined as foreign_characters. Case counts; accents are compared as composed letters (NFC)."""
    min_chars_per_s: float = Field(0.0, ge=0)
    """Transcripts too short for their clip are quarantined as text_too_short: words are missing from the text."""
    max_chars_per_s: float = Field(25.0, gt=0)
    """Transcripts too long for their clip are quarantined as text_too_long: words are missing from the audio.

    Over the five prompt packages the fastest true reading is 24.9 characters a second, the first false one 30.3."""

    max_damaged_share: float = Field(0.0, ge=0, le=1)
    """Clips with a larger share of undecodable audio are quarantined as corrupt; in others it becomes silence."""

    @model_validator(mode="after")
    def _order(self) -> Filters:
        if self.min_audio_s >= self.max_audio_s:
            raise ValueError(f"min_audio_s={self.min_audio_s:g} is not below max_audio_s={self.max_audio_s:g}")
        if self.min_chars_per_s >= self.max_chars_per_s:
            raise ValueError(
                f"min_chars_per_s={self.min_chars_per_s:g} is not below max_chars_per_s={self.max_chars_per_s:g}"
            )
        try:
            _ = self.foreign
        except re.error as error:
            raise ValueError(
                f"allowed_characters='{self.allowed_characters}' is no set of characters: {error}"
            ) from None
        return self

    @property
    def foreign(self) -> re.Pattern[str] | None:
        """Matches one character that is not allowed; None where all are."""
        if self.allowed_characters is None:
            return None
        return re.compile(f"[^{unicodedata.normalize('NFC', self.allowed_characters)}]")

    def limits(self, min_audio_s: float, max_audio_s: float) -> AudioLimits:
        """Return what decoding a clip may bring."""
        return AudioLimits(min_audio_s=min_audio_s, max_audio_s=max_audio_s, max_damaged_share=self.max_damaged_share)

    def check_text(self, text: str) -> None:
        """Raise DataError where the transcript alone is unfit."""
        if not any(map(str.isalnum, text)):
            raise DataError("no_transcript", f"{text!r} has no letter and no digit")
        if len(text.strip()) < self.min_chars:
            raise DataError("too_few_characters", f"{text!r}, under {self.min_chars}")
        if self.foreign is not None:
            found = sorted(set(self.foreign.findall(unicodedata.normalize("NFC", text))))
            if found:
                raise DataError("foreign_characters", ", ".join(map(character_name, found)))

    def check_length(self, duration_s: float) -> None:
        """Raise DataError where the clip is too short or too long."""
        if duration_s < self.min_audio_s:
            raise DataError("too_short", f"{duration_s:.2f} s, under {self.min_audio_s:g} s")
        if duration_s > self.max_audio_s:
            raise DataError("too_long", f"{duration_s:.2f} s, over {self.max_audio_s:g} s")

    def check_rate(self, text: str, duration_s: float) -> None:
        """Raise DataError where the transcript does not fit the clip's length."""
        if len(text) > self.max_chars_per_s * duration_s:
            raise DataError("text_too_long", f"{len(text)} characters in {duration_s:.2f} s")
        if len(text) < self.min_chars_per_s * duration_s:
            raise DataError("text_too_short", f"{len(text)} characters in {duration_s:.2f} s")


def character_name(character: str) -> str:
    """Return ``U+0436 ж CYRILLIC SMALL LETTER ZHE``; what has no shape is left out, what has no name is ``unnamed``."""
    shape = f" {character}" if character.isprintable() and not character.isspace() else ""
    return f"U+{ord(character):04X}{shape} {unicodedata.name(character, 'unnamed')}"
