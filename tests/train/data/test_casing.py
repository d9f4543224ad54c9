from __future__ import annotations

import pytest

from asr.data.sources.prompts import fetch, utterances
from asr.io.cache import cache_root
from train.data.casing import Casing

WITHOUT_CASE = {
    "Thaana": "ދިވެހިރާއްޖެއަކީ އިންޑިޔާ ކަނޑުގައި އޮންނަ ޤައުމެކެވެ",
    "Arabic": "مرحبا كيف حالك اليوم",
    "Han": "我们昨天看了一张 DVD 很好",
    "Japanese": "昨日 NHK でニュースを見ました",
    "Devanagari": "आज मौसम अच्छा है",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวง",
    "Georgian, whose letters Unicode calls small": "გამარჯობა როგორ ხარ დღეს",
    "Cherokee, whose letters Unicode calls capital": "ᎣᏏᏲ ᏙᎯᏧ ᎣᏍᏓ ᏑᎾᎴ",
    "numbers": "1984 2001",
    "nothing": "",
}
WITH_CASE = {
    "Latin": "Perché non è venuto ieri?",
    "Greek": "Καλημέρα, τι κάνετε σήμερα;",
    "Cyrillic": "Введите номер оператора.",
    "Armenian": "Բարեւ, ինչպես եք։",
}


def finding(*texts: str) -> str:
    casing = Casing()
    for number, text in enumerate(texts):
        casing.add(f"clip {number}", text)
    return casing.finding()


@pytest.mark.parametrize("script", WITH_CASE)
def test_a_manifest_all_in_capitals_is_told(script: str) -> None:
    text = WITH_CASE[script]
    assert finding(*[text] * 8) == ""
    assert finding(*[text.upper()] * 8).startswith("all 8 transcripts are all in capitals, such as 'clip 0': ")


@pytest.mark.parametrize("script", WITH_CASE)
def test_a_manifest_all_in_small_letters_is_told_with_punctuation_or_without(script: str) -> None:
    small = "".join(letter for letter in WITH_CASE[script].lower() if letter.isalpha() or letter == " ")
    for text in (small, WITH_CASE[script].lower()):
        assert "have no capital" in finding(*[text] * 8)


def test_a_sharp_s_is_no_small_letter_among_capitals() -> None:
    assert "all in capitals" in finding(*["GRÜßE AN ALLE"] * 8)


@pytest.mark.parametrize("script", WITHOUT_CASE)
def test_a_script_without_case_is_not(script: str) -> None:
    assert finding(*[WITHOUT_CASE[script]] * 20) == ""


def test_a_source_in_capitals_among_others_is_told() -> None:
    good = "Perché non è venuto ieri?"
    assert "3 of 10 transcripts are all in capitals" in finding(*[good] * 7, *[good.upper()] * 3)
    assert finding(*[good] * 9, good.upper()) == ""
    assert finding(*["OK", "NBS", "M I S D N"] * 9) == ""  # abbreviations are written so
    assert finding(*[good.upper()] * 3) == ""  # too few to tell


@pytest.mark.parametrize("language", ["it", "en", "fr", "es", "ru"])
def test_prompts_are_as_people_write(language: str) -> None:
    good, _ = utterances(language, fetch(language, cache_root()))
    assert finding(*[clip.text for clip in good]) == ""
