import subprocess
import sys

import pytest

from asr import language
from asr.errors import UserError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("it", "it"),
        ("IT", "it"),
        ("Italian", "it"),
        (" italian ", "it"),
        ("Haitian Creole", "ht"),
        ("haitian", "ht"),
        ("Sinhalese", "si"),
        ("castilian", "es"),
        ("Mandarin", "zh"),
        ("it-IT", "it"),
        ("pt_BR", "pt"),
        ("cmn_hans_cn", "zh"),
        ("nb_no", "no"),
        ("jv", "jw"),
    ],
)
def test_a_code_a_name_or_a_locale_gives_the_code(given: str, expected: str) -> None:
    assert language.code(given) == expected


def test_the_table_is_transformers_table() -> None:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    assert {code: name.lower() for code, name in language.NAMES.items()} == LANGUAGES
    assert {name: language.code(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE


def test_every_alias_and_unspaced_language_is_known() -> None:
    assert set(language.ALIASES.values()) | language.UNSPACED <= set(language.NAMES)


@pytest.mark.parametrize(
    ("wrong", "near"), [("itallian", "italian"), ("portuguesse", "portuguese"), ("swahilli", "swahili")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'") as caught:
        language.code(wrong)
    assert f"'{wrong}'" in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    ["", "xx", "gibberish", "-", "\0", "it\0", "x" * 5000, "\ud800", "i-klingon", "x-private"],
)
def test_what_is_no_language_is_a_user_error_with_a_hint(wrong: str) -> None:
    with pytest.raises(UserError) as caught:
        language.code(wrong)
    assert caught.value.hint


@pytest.mark.parametrize("given", ["dv", "DV", "Dhivehi", "divehi", "dv-MV"])
def test_dhivehi_is_pointed_to_a_related_language(given: str) -> None:
    assert language.code(given) == "dv"
    with pytest.raises(UserError, match=r"Dhivehi is not one of Whisper's languages.*language=si.*head=ctc"):
        language.require_token(language.code(given))
    language.require_token("si")


def test_name_is_the_way_back() -> None:
    assert language.name("it") == "Italian"
    assert all(language.code(language.name(code)) == code for code in language.NAMES)
    assert {code: language.name(code) for code in ("dv", "zu")} == {"dv": "Dhivehi", "zu": "Zulu"}
    for wrong in ("xx", "", "ita", "Italian"):
        with pytest.raises(KeyError):
            language.name(wrong)


@pytest.mark.medium
def test_importing_the_module_is_light() -> None:
    program = "import sys, asr.language; assert not {'torch', 'transformers', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[("ita", "it"), ("deu", "de"), ("ger", "de"), ("fre", "fr"), ("zho", "zh"), ("chi", "zh"), ("cze", "cs")],
        *[("cmn", "zh"), ("arb", "ar"), ("pes", "fa"), ("swh", "sw"), ("zsm", "ms"), ("tgl", "tl"), ("jav", "jw")],
        *[("pt-BR", "pt"), ("zh-Hans", "zh"), ("zh-Hant-TW", "zh"), ("zh-yue", "yue"), ("sr-Latn-RS", "sr")],
        *[("it_IT.UTF-8", "it"), ("ita-IT", "it"), ("en-us-posix", "en"), ("iw", "he"), ("ji", "yi"), ("nob", "no")],
        *[("italiano", "it"), ("Deutsch", "de"), ("français", "fr"), ("Español", "es"), ("castellano", "es")],
        *[("русский", "ru"), ("日本語", "ja"), ("中文", "zh"), ("粵語", "yue"), ("हिन्दी", "hi"), ("kiswahili", "sw")],
        *[("Brazilian Portuguese", "pt"), ("American English", "en"), ("Farsi", "fa"), ("Filipino", "tl")],
    ],
)
def test_codes_tags_and_names_of_every_standard_are_known(given: str, expected: str) -> None:
    assert language.code(given) == expected


def test_every_iso_code_of_every_language_of_whisper_is_known() -> None:
    """ISO 639-3, and both kinds of ISO 639-2 where they differ, as the library's tables have them."""
    import langcodes

    ours = {"jw": "jv"}  # Whisper's code for Javanese is an old one
    for each in language.NAMES:
        known = langcodes.Language.get(ours.get(each, each))
        for variant in ("T", "B"):
            assert language.code(known.to_alpha3(variant)) == each, (each, variant)


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ("div", "Dhivehi"),
        ("Klingon", "Klingon"),
        ("gsw", "Swiss German"),
        ("zul", "Zulu"),
        ("or", "Odia"),
        ("gle", "Irish"),
    ],
)
def test_a_language_that_whisper_lacks_is_called_by_its_name_and_no_other_is_suggested(given: str, called: str) -> None:
    with pytest.raises(UserError) as caught:
        language.require_token(language.code(given))
    assert caught.value.message == f"{called} is not one of Whisper's languages"
    assert "did you mean" not in caught.value.hint


@pytest.mark.parametrize("word", ["auto", "AUTO", " detect ", "und", "mul", "unknown", "none"])
def test_auto_is_no_misspelt_pashto(word: str) -> None:
    assert language.code_or_none(word) is None
    with pytest.raises(UserError, match="names no language, and one is needed here") as caught:
        language.code(word)
    assert "did you mean" not in str(caught.value)


def test_no_language_is_none_and_a_language_is_its_code() -> None:
    assert language.code_or_none(None) is language.code_or_none("") is language.code_or_none(" ") is None
    assert language.code_or_none("ita") == "it"
    assert not language.is_unnamed("Latin")
    assert language.is_detected(" Auto") and not any(map(language.is_detected, (None, "", "und", "it")))
    with pytest.raises(UserError, match="'q' is not a known language"):
        language.code_or_none("q")


@pytest.mark.medium
def test_the_library_is_not_asked_what_our_own_table_knows() -> None:
    program = (
        "import sys, asr.language as l; assert [l.code(w) for w in ('it', 'Italian', 'it-IT')] == ['it'] * 3;"
        "assert 'langcodes' not in sys.modules; l.code('ita'); assert 'langcodes' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
