"""Whisper's languages: the code that names one in a prompt token, and the words people use for it.

The table is our own because importing transformers' costs 1.7 s; a test holds the two equal.
"""

from __future__ import annotations

from asr.config import suggestion
from asr.errors import UserError

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

_DHIVEHI = ("dv", "dhivehi", "divehi", "maldivian")
_CODE_OF = {name.casefold(): code for code, name in NAMES.items()} | {code: code for code in NAMES} | ALIASES


def code(name_or_code: str) -> str:
    """Return Whisper's code (``it``) for a code, an English name, or a locale (``Italian``, ``it-IT``, ``pt_BR``).

    Case and surrounding space do not matter. A locale's region is dropped: Whisper has one token per language.
    Raises UserError for anything else, naming the nearest language.
    """
    word = name_or_code.strip().casefold()
    primary = word.replace("_", "-").partition("-")[0]
    if primary in _DHIVEHI:
        raise UserError(
            "Dhivehi is not one of Whisper's languages",
            "train and decode it under the token of a related language, for example language=si (Sinhala)",
        )
    found = _CODE_OF.get(word) or _CODE_OF.get(primary)
    if found is None:
        hint = suggestion(word, list(_CODE_OF)) or "give a code such as 'it' or a name such as 'Italian'"
        raise UserError(f"'{name_or_code}' is not one of Whisper's languages", hint)
    return found


def name(code: str) -> str:
    """Return the English name of a Whisper code: ``it`` is ``Italian``. Raises KeyError for anything but a code."""
    return NAMES[code]
