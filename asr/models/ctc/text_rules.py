"""Rules by which a transcript becomes the text that a CTC network is taught: casing, punctuation, Unicode.

A symbol of a character vocabulary is one code point after NFC. Grapheme clusters would be the other choice, but a
syllable of Devanagari, Tamil or Thaana is one cluster: there would be thousands of symbols, most of them rare, where
letters and vowel signs are a few dozen, and published checkpoints (MMS, XLSR) count code points too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from asr.errors import UserError
from asr.parsed import JsonObject

Casing = Literal["keep", "lower", "upper"]
Punctuation = Literal["keep", "drop"]

DELIMITER = "|"
"""The symbol between words, in a character vocabulary."""

WORD_START = "▁"
"""The mark at the beginning of a word, in a subword vocabulary."""

_DOTTED = ("tr", "az")  # dotted and dotless i are two letters
_LOWER_I, _UPPER_I = str.maketrans({"İ": "i", "I": "ı"}), str.maketrans({"i": "İ"})

# One spelling of what keyboards type in several ways; and marks that stay between letters: Catalan's middle dot, the
# hyphens of Hebrew and Armenian, geresh and gershayim, and the tsheg between Tibetan syllables.
_SAME = {"’": "'", "‘": "'", "＇": "'", "‐": "-", "‑": "-", "－": "-", "﹣": "-"}
_INNER = "'·־֊׳״་-"
_ZWNJ, _ZWJ, _ZERO_WIDTH_SPACE = "\u200c", "\u200d", "\u200b"
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters and marks without any width
_DROPPED = "\0"  # stands for dropped punctuation until it is known what is around it

# Thai, Lao, Tibetan, Burmese, Khmer, kana, bopomofo, Han: in these words follow each other without a space.
_UNSPACED = (
    "\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_NEEDS_NO_SPACE = re.compile(f"(?<=[{_UNSPACED}]){_DROPPED}+|{_DROPPED}+(?=[{_UNSPACED}])")
_NOT_INSIDE = re.compile(rf"(?<![^\s{_DROPPED}{_INNER}])[{_INNER}]|[{_INNER}](?![^\s{_DROPPED}{_INNER}])")
_JOINERS = re.compile(f"[{_ZWNJ}{_ZWJ}]+")


@dataclass(frozen=True)
class TextRules:
    """Rules of a vocabulary's texts. They lie in the artifact beside its symbols, so that all who use it agree.

    ``language`` is a Whisper code, or None; it decides the case of i in Turkish and Azerbaijani.
    """

    casing: Casing = "keep"
    punctuation: Punctuation = "keep"
    language: str | None = None

    def apply(self, text: str) -> str:
        """Return ``text`` under the rules, in NFC: words parted by single spaces, none at either end.

        With ``punctuation="drop"`` apostrophes and hyphens inside words stay, and so do digits and all marks that
        belong to letters (vowel signs, Arabic diacritics); punctuation and symbols part words, but not where a script
        is written without spaces. Of what has no width only the joiners of Indic and Persian spelling stay. ``|`` and
        ``▁`` part words under any rules: a vocabulary needs them.
        """
        text = unicodedata.normalize("NFC", self._cased(unicodedata.normalize("NFC", text)))
        text = text.translate(_DROPPING if self.punctuation == "drop" else _KEEPING)
        text = _JOINERS.sub(_needed_joiner, text)
        if self.punctuation == "drop":
            text = _NOT_INSIDE.sub(_DROPPED, text)
        return _closed(text)

    def _cased(self, text: str) -> str:
        if self.casing == "lower":
            return (text.translate(_LOWER_I) if self.language in _DOTTED else text).lower()
        if self.casing == "upper":
            return (text.translate(_UPPER_I) if self.language in _DOTTED else text).upper()
        return text

    def as_json(self) -> JsonObject:
        """Return the rules as ``rules_from_json`` reads them."""
        return asdict(self)


def rules_from_json(value: object) -> TextRules:
    """Return the rules that ``as_json`` wrote. Raises UserError for anything else."""
    if isinstance(value, dict) and set(value) == {"casing", "punctuation", "language"}:
        casing, punctuation, language = value["casing"], value["punctuation"], value["language"]
        known = casing in get_args(Casing) and punctuation in get_args(Punctuation)
        if known and (language is None or isinstance(language, str)):
            return TextRules(casing, punctuation, language)
    raise UserError("its rules of text are none that this version knows", "a newer version may know them")


def is_spoken(character: str) -> bool:
    """Return whether a character is part of a word: a letter, a mark on one, or a digit."""
    category = unicodedata.category(character)
    return category[0] in "LMN" and category != "Me"


def is_inside_words(character: str) -> bool:
    """Return whether a character is punctuation that stays between letters under any rules."""
    return character in _INNER or character in _SAME


def alternatives(character: str) -> tuple[str, ...]:
    """Return other spellings of a character: of an apostrophe or a hyphen, or a letter's parts."""
    plain = _SAME.get(character, character)
    same = [one for one in (plain, *_SAME) if _SAME.get(one, one) == plain and one != character]
    parts = unicodedata.normalize("NFD", character)
    return (*same, parts) if parts != character else tuple(same)


def without(text: str, dropped: set[str]) -> str:
    """Return ``text``, which ``TextRules.apply`` returned, without some of its characters, as punctuation drops out."""
    gone = {ord(one): "" if one in (_ZWNJ, _ZWJ) else _DROPPED for one in dropped}
    return _closed(text.translate(gone))


def _closed(text: str) -> str:
    """Return the text with the places closed at which something was dropped."""
    if _DROPPED in text:
        text = _NEEDS_NO_SPACE.sub("", text).replace(_DROPPED, " ")
    return " ".join(unicodedata.normalize("NFC", text).split())


def _needed_joiner(match: re.Match[str]) -> str:
    """Return a joiner where spelling needs it, else nothing.

    ZWJ beside a virama chooses a form of the consonant that is another spelling (Bengali, Malayalam, Sinhala, Marathi).
    ZWNJ parts a word's members behind a virama, and between Arabic letters (Persian می‌روم).
    """
    start, end = match.span()
    before, after = match.string[max(start - 1, 0) : start], match.string[end : end + 1]
    if not before or not is_spoken(before):
        return ""
    virama, goes_on = unicodedata.combining(before) == 9, bool(after) and is_spoken(after)
    if match[0][0] == _ZWJ:
        return _ZWJ if virama or (goes_on and unicodedata.combining(after) == 9) else ""
    arabic = unicodedata.bidirectional(before) in ("AL", "NSM") and goes_on and unicodedata.bidirectional(after) == "AL"
    return _ZWNJ if goes_on and (virama or arabic) else ""


class _Table(dict[int, str]):
    """Replacements of characters, as ``str.translate`` looks them up; each is thought of once."""

    def __init__(self, drop: bool) -> None:
        super().__init__()
        self._drop = drop

    def __missing__(self, code: int) -> str:
        self[code] = _replacement(chr(code), self._drop)
        return self[code]


def _replacement(character: str, drop: bool) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zs", "Zl", "Zp") or character == _ZERO_WIDTH_SPACE:
        return " "
    if character in (_ZWNJ, _ZWJ):
        return character
    # Private, unassigned and half characters have no meaning here that anybody could read.
    if category[0] == "C" or character in _FILLERS or "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return ""
    if character in (DELIMITER, WORD_START):
        return _DROPPED
    if not drop:
        return character
    if is_inside_words(character):
        return _SAME.get(character, character)
    if category == "Me":
        return ""
    return _DROPPED if category[0] in "PS" else character


_KEEPING, _DROPPING = _Table(drop=False), _Table(drop=True)
