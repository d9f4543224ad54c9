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
    ("wrong", "near"), [("itallian", "italian"), ("Portugese", "portuguese"), ("swahilli", "swahili")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'") as caught:
        language.code(wrong)
    assert f"'{wrong}'" in caught.value.message


@pytest.mark.parametrize("wrong", ["", "xx", "klingon", "-"])
def test_a_language_whisper_lacks_is_a_user_error_with_a_hint(wrong: str) -> None:
    with pytest.raises(UserError) as caught:
        language.code(wrong)
    assert caught.value.hint


@pytest.mark.parametrize("given", ["dv", "DV", "Dhivehi", "divehi", "dv-MV"])
def test_dhivehi_is_pointed_to_a_related_language(given: str) -> None:
    with pytest.raises(UserError, match=r"Dhivehi is not one of Whisper's languages.*language=si"):
        language.code(given)


def test_name_is_the_way_back() -> None:
    assert language.name("it") == "Italian"
    assert all(language.code(language.name(code)) == code for code in language.NAMES)
    with pytest.raises(KeyError):
        language.name("xx")


def test_importing_the_module_is_light() -> None:
    program = "import sys, asr.language; assert not {'torch', 'transformers', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
