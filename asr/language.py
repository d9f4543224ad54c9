"""Languages: their codes, Whisper's own where it has a token for one, and the words people use for them.

The table is of Whisper's, and our own because importing transformers' costs 1.7 s; a test holds the two equal. All
other languages, and codes and names of other kinds (ISO 639, BCP 47, a language's name for itself), are looked up with
langcodes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from asr.config import suggestion
from asr.errors import UserError
from asr.printable import printable

# fmt: off
NAMES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "as": "Assamese", "az": "Azerbaijani", "ba": "Bashkir",
    "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali", "bo": "Tibetan", "br": "Breton", "bs": "Bosnian",
    "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fo": "Faroese",
    "fr": "French", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa", "haw": "Hawaiian", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "jw": "Javanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "la": "Latin", "lb": "Luxembourgish", "ln": "Lingala",
    "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy", "mi": "Maori", "mk": "Macedonian",
    "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Myanmar",
    "ne": "Nepali", "nl": "Dutch", "nn": "Nynorsk", "no": "Norwegian", "oc": "Occitan", "pa": "Punjabi",
    "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sa": "Sanskrit",
    "sd": "Sindhi", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sn": "Shona", "so": "Somali",
    "sq": "Albanian", "sr": "Serbian", "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil",
    "te": "Telugu", "tg": "Tajik", "th": "Thai", "tk": "Turkmen", "tl": "Tagalog", "tr": "Turkish", "tt": "Tatar",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "yi": "Yiddish", "yo": "Yoruba",
    "yue": "Cantonese", "zh": "Chinese",
}
# fmt: on

# Other names of the same languages: transformers' aliases first, then the ISO 639 codes that differ from Whisper's.
ALIASES = {
    "burmese": "my",
    "castellano": "es",
    "castilian": "es",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "moldavian": "ro",
    "moldovan": "ro",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
    "cmn": "zh",
    "farsi": "fa",
    "fil": "tl",
    "filipino": "tl",
    "iw": "he",
    "jv": "jw",
    "nb": "no",
}

# Written without spaces between words: a word error rate says little of them, the character error rate is to be read.
UNSPACED = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})

# What other software calls a language that is to be detected, and one that nobody knows.
DETECTED = frozenset({"auto", "automatic", "detect", "detection", "autodetect", "auto-detect"})
UNNAMED = DETECTED | {*("none", "null", "unknown", "und", "undetermined", "mul", "multiple", "multilingual", "any")}

_LONGEST = 80  # characters of a name or tag
_RELATED = {"dv": "si"}  # Whisper's language to train under, where the relation is known to work
_CODE_OF = {name.casefold(): code for code, name in NAMES.items()} | {code: code for code in NAMES} | ALIASES


def code(name_or_code: str) -> str:
    """Return the code (``it``) for a code, a name, or a locale (``Italian``, ``ita``, ``italiano``, ``it-IT``).

    Whisper's where it has one, that of ISO 639 for other languages (``dv``). Case and surrounding space do not matter.
    A locale's region is dropped: Whisper has one token per language. Raises UserError for what is no language.
    """
    word = name_or_code.strip().casefold()
    found = _CODE_OF.get(word) or _usual_locale(word) or _known(word)
    if found:
        return found
    if word in UNNAMED:
        raise UserError(
            f"'{printable(name_or_code)}' names no language, and one is needed here",
            "give a code such as 'it' or a name such as 'Italian'",
        )
    hint = suggestion(word, [known for known in _CODE_OF if len(known) > 3])
    raise UserError(
        f"'{printable(name_or_code)}' is not a known language",
        hint or "give a code such as 'it' or a name such as 'Italian'",
    )


def require_token(code: str) -> None:
    """Raise UserError, which calls a language by its name, where no Whisper has a token for its code."""
    if code not in NAMES:
        raise UserError(f"{name(code)} is not one of Whisper's languages", instead(code))


def instead(code: str) -> str:
    """Return what to do about a language that Whisper has no token for."""
    related = f", for example language={_RELATED[code]} ({NAMES[_RELATED[code]]})" if code in _RELATED else ""
    return f"train and decode it under the token of a related language{related}; a CTC model (head=ctc) needs none"


def code_or_none(name_or_code: str | None) -> str | None:
    """Return ``code`` of a language where one may be detected instead: None where none is named, as by ``auto``."""
    return None if is_unnamed(name_or_code) else code(name_or_code or "")


def is_unnamed(word: str | None) -> bool:
    """Return whether no language is named: it is empty, or ``auto``, ``und`` and the like."""
    return word is None or not word.strip() or word.strip().casefold() in UNNAMED


def is_detected(word: str | None) -> bool:
    """Return whether a word asks in so many words to have the language detected, as ``auto`` does."""
    return word is not None and word.strip().casefold() in DETECTED


def _usual_locale(word: str) -> str:
    """Codes of ``it-IT``, ``pt_BR``, ``cmn_hans_cn``; ``zh-yue``, with two languages in it, is for the library."""
    match = re.fullmatch(r"([a-z]{2,3})([-_][a-z]{4})?([-_]([a-z]{2}|\d{3}))?", word)
    return _CODE_OF.get(match[1], "") if match else ""


@lru_cache(maxsize=1024)
def _known(word: str) -> str:
    """Return the code of any language there is, Whisper's own where it has one; ``""`` for what is none."""
    if not word.isprintable() or len(word) > _LONGEST:  # its trie of names cannot be asked for a NUL
        return ""
    import langcodes  # 30 ms, and 0.2 s with the first name that is looked up
    from langcodes.tag_parser import LanguageTagError

    tag = re.split("[.@]", word)[0].replace("_", "-")  # it_IT.UTF-8
    primary = tag.partition("-")[0]
    for each in (tag, primary):  # the language of a tag whose other parts nobody registered is one all the same
        if re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{1,8})*", each) and primary not in UNNAMED:
            try:
                language = langcodes.Language.get(each).prefer_macrolanguage()  # cmn is Chinese as Whisper knows it
            except LanguageTagError:
                continue
            found = str(language.language)
            if langcodes.Language.make(found).is_valid():
                return _CODE_OF.get(found, found)
    try:
        found = str(langcodes.find(word).prefer_macrolanguage().language)
    except LookupError:
        return ""
    return _CODE_OF.get(found, found)


def _english(code: str) -> str:
    import langcodes

    return "Dhivehi" if code == "dv" else str(langcodes.Language.make(code).display_name())


def name(code: str) -> str:
    """Return the English name of what ``code`` returns: ``it`` is ``Italian``. Raises KeyError for anything else."""
    if code not in NAMES and (not code or _known(code) != code):
        raise KeyError(code)
    return NAMES.get(code) or _english(code)
