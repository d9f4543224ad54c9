import sys
import unicodedata
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
from whisper_normalizer.english import EnglishSpellingNormalizer

from asr.scoring.normalizer import Normaliser, normalise

NORMALISERS: tuple[Normaliser, ...] = get_args(Normaliser)

THAANA, DEVANAGARI, TAMIL, ARABIC, LATIN = (
    (0x0780, 0x07B1),
    (0x0900, 0x097F),
    (0x0B80, 0x0BFF),
    (0x0610, 0x06ED),
    (0x20, 0x24F),
)
IN_FIVE_SCRIPTS = st.text(
    st.one_of(
        [
            st.characters(min_codepoint=low, max_codepoint=high)
            for low, high in (THAANA, DEVANAGARI, TAMIL, ARABIC, LATIN)
        ]
    )
)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("ދިވެހިރާއްޖެ.", "si", "ދިވެހިރާއްޖެ"),
        ("އެއީ، ކޮބާ؟", "si", "އެއީ ކޮބާ"),
        ("नमस्ते दुनिया। क्षत्रिय!", "hi", "नमस्ते दुनिया क्षत्रिय"),
        ("வணக்கம், உலகம்!", "ta", "வணக்கம் உலகம்"),
        ("الْحَمْدُ لِلَّهِ؟", "ar", "الْحَمْدُ لِلَّهِ"),
        ("C’è l'amico?  Perché «no»…", "it", "c è l amico perché no"),
    ],
)
def test_normalised_drops_punctuation_and_keeps_vowel_signs(text: str, language: str, expected: str) -> None:
    assert normalise(text, "normalised", language) == unicodedata.normalize("NFKC", expected)


def test_vowel_signs_tell_words_apart_except_in_whispers_own_normaliser() -> None:
    boiled, water = "ދިޔަ", "ދޯޔާ"
    assert normalise(boiled) != normalise(water)
    assert normalise(boiled, "legacy", "si") == normalise(water, "legacy", "si") == "ދ ޔ"


@pytest.mark.parametrize("normaliser", ["orthographic", "normalised"])
def test_composed_and_decomposed_accents_are_one(normaliser: Normaliser) -> None:
    assert normalise("perche\u0301 e\u0300", normaliser) == normalise("perché è", normaliser) == "perché è"


def test_orthographic_keeps_what_was_typed() -> None:
    assert normalise(" L'Amico,\tdisse:\n«È  qui!» ", "orthographic") == "L'Amico, disse: «È qui!»"


def test_case_is_lowered_not_folded() -> None:
    assert normalise("in Maßen") == "in maßen" != normalise("in Massen")
    assert normalise("ΟΔΟΣ.") == normalise("οδός".replace("ό", "ο")) == "οδος"


def test_turkish_has_two_letters_i() -> None:
    assert normalise("IŞIK, İzmir", "normalised", "tr") == "ışık izmir"
    assert normalise("DISH", "normalised", "en") == "dish"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("می\u200cخواهم", "میخواهم"),
        ("ක්\u200dරම", "ක්රම"),
        ("\ufeff\u200fdue\u00adcento\u200e", "duecento"),
        ("ជំរាប\u200bសួរ", "ជំរាប សួរ"),
        ("ciao ❤\ufe0f 1\ufe0f\u20e3 👩\u200d💻", "ciao 1"),
        ("perche\u00b4 no", "perche no"),
        ("３ ㎏ ½", "3 kg 1 2"),
    ],
)
def test_what_has_no_sound_leaves_no_trace(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_legacy_is_whispers_own() -> None:
    assert normalise("Mr. Smith's got twenty-one dollars.", "legacy", "en") == "mister smith has got $21"
    assert normalise("Perché [musica] no?", "legacy", "it") == "perché no"
    assert normalise("你好。", "legacy", "zh") == "你 好"


def test_legacy_english_is_spelt_as_in_published_tables() -> None:
    assert normalise("The colour of Grey's jewellery, cause it's twenty-one.", "legacy", "en") == (
        "the color of gray is jewelry cause it is 21"
    )
    assert normalise("The colour", "legacy", "it") == normalise("The colour", "normalised", "en") == "the colour"


@pytest.mark.medium
def test_legacy_english_gives_the_words_of_transformers_with_whispers_table() -> None:
    table = EnglishSpellingNormalizer().mapping
    theirs = EnglishTextNormalizer(table)
    assert len(table) > 1700
    for british in table:
        sentence = f"Mr. {british.title()} isn't {british}, uh, for £{len(british)}.50!"
        assert normalise(sentence, "legacy", "en") == theirs(sentence).strip()


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("text", ["", " \t\n", "..."])
def test_nothing_stays_nothing(normaliser: Normaliser, text: str) -> None:
    assert normalise(text, normaliser) == ("..." if normaliser == "orthographic" and text == "..." else "")


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(text=st.text() | IN_FIVE_SCRIPTS, language=st.sampled_from([None, "tr", "it"]))
@pytest.mark.parametrize("normaliser", ["orthographic", "normalised"])
def test_idempotent(normaliser: Normaliser, text: str, language: str | None) -> None:
    once = normalise(text, normaliser, language)
    assert normalise(once, normaliser, language) == once
    assert once == " ".join(once.split())


@pytest.mark.medium
def test_idempotent_on_every_character_that_could_change() -> None:
    every = (chr(code) for code in range(sys.maxunicode + 1))
    inert = {"Lo", "Cn", "Co", "Cs"}
    some = [one for one in every if unicodedata.decomposition(one) or unicodedata.category(one) not in inert]
    assert len(some) > 19_000
    assert [one for one in some if normalise(normalise(one)) != normalise(one)] == []


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(text=IN_FIVE_SCRIPTS)
def test_no_letter_digit_or_mark_is_ever_lost(text: str) -> None:
    assert _sounds(normalise(text)) == _sounds(
        "".join(" " if unicodedata.category(one) == "Sk" else one for one in text)
    )


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_orthographic_loses_white_space_alone(text: str) -> None:
    assert "".join(normalise(text, "orthographic").split()) == "".join(unicodedata.normalize("NFC", text).split())


def _sounds(text: str) -> Counter[str]:
    """Count the letters, digits and marks of a text, whatever their case and composition."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).lower())
    return Counter(one for one in decomposed if unicodedata.category(one)[0] in "LMN")
