"""The three normalisers that transcripts pass before they are compared: texts equal after them count as the same.

``orthographic``  what was typed counts: case, punctuation, every mark. Only NFC and white space are tidied.
``normalised``    what was said counts: case, punctuation and symbols do not. Letters, digits and combining marks stay,
                  because vowel signs (Thaana, Devanagari, Tamil, Arabic ...) are part of the word.
``legacy``        Whisper's own normaliser, only for comparison with published tables. Outside English it turns
                  combining marks into spaces, so its figures for such scripts are not word error rates
                  (openai/whisper pull request 2849).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Literal

Normaliser = Literal["orthographic", "normalised", "legacy"]

# Whisper's paper, appendix C: these are scored letter by letter, because they write no spaces between words.
LEGACY_SPLIT = frozenset({"zh", "ja", "th", "lo", "my"})

# Lower case depends on the language only here: dotted and dotless i are two letters.
_DOTTED_I = str.maketrans({"İ": "i", "I": "ı"})
_ZERO_WIDTH_SPACE = "\u200b"


def normalise(text: str, normaliser: Normaliser = "normalised", language: str | None = None) -> str:
    """Return ``text`` as ``normaliser`` compares it: words parted by single spaces, none at either end.

    ``language`` is a Whisper code. It changes the result for Turkish and Azerbaijani (``normalised``: dotless i), and
    for English and the languages of LEGACY_SPLIT (``legacy``).
    """
    return _collapse(_REGISTRY[normaliser](text, language))


def _orthographic(text: str, language: str | None) -> str:
    return unicodedata.normalize("NFC", text)


def _normalised(text: str, language: str | None) -> str:
    """Lower case, not case folding: folding writes ß as ss and so confuses words that sound different (Maße, Masse).

    An apostrophe is punctuation like any other: l'amico counts as two words, whichever of ' and ’ was typed.
    """
    text = cased(text)
    if language in ("tr", "az"):
        text = text.translate(_DOTTED_I)
    return unicodedata.normalize("NFKC", text.lower())


def cased(text: str) -> str:
    """Return the words of ``text`` as ``normalised`` compares them, but in the case that they were written in."""
    # A spacing accent decomposes to a space and an orphan combining mark, so it has to go before NFKC.
    text = "".join(" " if _is_spacing(character) else character for character in text)
    return "".join(map(_audible, unicodedata.normalize("NFKC", text)))


def parts_words(character: str) -> bool:
    """Return whether ``normalised`` has a space in place of a character: punctuation, symbols and white space."""
    return _is_spacing(character) or all(_audible(one) == " " for one in unicodedata.normalize("NFKC", character))


def _legacy(text: str, language: str | None) -> str:
    """Whisper's rules from transformers, and for English its British-to-American spellings, which that does not ship.

    Of whisper-normalizer only the table: its own rules say "because" for "cause" and more that Whisper's do not.
    """
    return _whisper_normaliser(language == "en", language in LEGACY_SPLIT)(text)


@cache
def _whisper_normaliser(english: bool, split_letters: bool) -> Callable[[str], str]:
    # Imported here: one to two seconds that only a comparison with published tables is worth.
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    found: Callable[[str], str] = (
        EnglishTextNormalizer(_spellings()) if english else BasicTextNormalizer(split_letters=split_letters)
    )
    return found


def _spellings() -> dict[str, str]:
    """Return Whisper's table of spellings, entry for entry (openai/whisper, normalizers/english.json)."""
    from whisper_normalizer.english import EnglishSpellingNormalizer

    spellings: dict[str, str] = EnglishSpellingNormalizer().mapping
    return spellings


@cache
def _is_spacing(character: str) -> bool:
    category = unicodedata.category(character)
    return category == "Sk" or category[0] == "P"


@cache
def _audible(character: str) -> str:
    """Return the character, a space in place of punctuation and symbols, or nothing in place of what has no width.

    Joiners (ZWJ, ZWNJ), direction marks, variation selectors and enclosing circles or keycaps choose a shape for the
    same letters, and keyboards differ in whether they write them: Unicode's own caseless matching (NFKC_Casefold)
    drops the first three too. The zero-width space is the exception, for it parts words in Khmer, Thai and Burmese.
    """
    category = unicodedata.category(character)
    if category[0] in "PSZ" or category == "Cc" or character == _ZERO_WIDTH_SPACE:
        return " "
    if category in ("Cf", "Me") or "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return ""
    return character


def _collapse(text: str) -> str:
    return " ".join(text.split())


_REGISTRY: dict[Normaliser, Callable[[str, str | None], str]] = {
    "orthographic": _orthographic,
    "normalised": _normalised,
    "legacy": _legacy,
}
