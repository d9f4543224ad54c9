import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.models.ctc.text_rules import Casing, Punctuation, TextRules, alternatives, rules_from_json, without

SPOKEN = TextRules("lower", "drop")
RULES = st.builds(
    TextRules,
    st.sampled_from(["keep", "lower", "upper"]),
    st.sampled_from(["keep", "drop"]),
    st.sampled_from([None, "tr", "zh"]),
)
# Those with a part in the rules come often enough to meet.
TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("aZß'’-|▁ .,\0\u200b\u200c\u200d\u034f\u0301\ufe0f\u093e\u094dकരന്می你好กİIıiΣς་"),
    )
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("Don’t -- rock-n‐roll 'tis the dogs' -", "don't rock-n-roll tis the dogs"),
        ("l'amico, 3.5 % e 24", "l'amico 3 5 e 24"),
        ("col·lecció", "col·lecció"),
        ("cafe\u0301", "café"),
        ("ދިވެހިރާއްޖެ.", "ދިވެހިރާއްޖެ"),
        ("އެއީ، ކޮބާ؟", "އެއީ ކޮބާ"),
        ("नमस्ते दुनिया। क्षत्रिय!", "नमस्ते दुनिया क्षत्रिय"),
        ("दिन-रात", "दिन-रात"),
        ("வணக்கம், உலகம்!", "வணக்கம் உலகம்"),
        ("الْحَمْدُ لِلَّهِ؟", "الْحَمْدُ لِلَّهِ"),
        ("你好，世界！", "你好世界"),
        ("你好，world", "你好world"),
        ("你好 world", "你好 world"),
        ("hello，world", "hello world"),
        ("สวัสดี\u200bครับ", "สวัสดี ครับ"),
        ("བོད་ཡིག་།", "བོད་ཡིག"),
        ("안녕하세요, 세계", "안녕하세요 세계"),
        ("צה״ל, תל־אביב", "צה״ל תל־אביב"),
    ],
)
def test_dropping_punctuation_leaves_words_whole(text: str, expected: str) -> None:
    assert SPOKEN.apply(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("می\u200cروم", "می\u200cروم"),
        ("می\u200c روم", "می روم"),
        ("\u200cمی", "می"),
        ("क्\u200dष", "क्\u200dष"),
        ("क्\u200cष", "क्\u200cष"),
        ("ন্\u200d", "ন্\u200d"),
        ("র\u200d্য", "র\u200d্য"),
        ("a\u200cb\u200dc", "abc"),
        ("\ufeffa\u00adb\u2060c\u202ed", "abcd"),
        ("a\ufe0fb\u034fc\ue000d", "abcd"),
        ("a\0b\x07c\x85d\u2028e\u00a0f", "a b c d e f"),
    ],
)
def test_of_what_has_no_width_only_joiners_that_spell_stay(text: str, expected: str) -> None:
    assert TextRules().apply(text) == expected
    assert TextRules("keep", "drop").apply(text) == expected


@pytest.mark.parametrize(
    ("text", "casing", "language", "expected"),
    [
        ("IŞIK İyi", "lower", "tr", "ışık iyi"),
        ("IŞIK I\u0307yi", "lower", "az", "ışık iyi"),
        ("ışık iyi", "upper", "tr", "IŞIK İYİ"),
        ("It", "lower", None, "it"),
        ("It", "upper", "en", "IT"),
        ("ΟΔΟΣ", "lower", "el", "οδος"),
        ("Straße", "upper", "de", "STRASSE"),
        ("Straße", "keep", "de", "Straße"),
    ],
)
def test_casing_knows_the_two_turkish_letters(text: str, casing: Casing, language: str | None, expected: str) -> None:
    assert TextRules(casing, "drop", language).apply(text) == expected


@pytest.mark.parametrize("punctuation", ["keep", "drop"])
def test_a_delimiter_in_a_text_parts_words_and_is_never_a_symbol(punctuation: Punctuation) -> None:
    assert TextRules("keep", punctuation).apply("a|b▁c || d") == "a b c d"


def test_kept_punctuation_stays_as_it_was_typed() -> None:
    assert TextRules().apply("  “Don’t!”  he said…\n5 % <pad>") == "“Don’t!” he said… 5 % <pad>"


@given(RULES, TEXT)
def test_a_text_under_the_rules_is_clean_and_stays_as_it_is(rules: TextRules, text: str) -> None:
    ruled = rules.apply(text)
    assert ruled == unicodedata.normalize("NFC", ruled) == " ".join(ruled.split())
    assert not set(ruled) & set("|▁\0\u200b\ufe0f")
    assert rules.apply(ruled) == ruled
    if rules.punctuation == "drop":
        assert not set(ruled) & set(",.’")


@given(TEXT)
def test_dropping_marks_keeps_every_letter_and_digit(text: str) -> None:
    def letters(one: str) -> list[str]:
        return [letter for letter in unicodedata.normalize("NFC", one) if letter.isalnum()]

    assert letters(TextRules("keep", "drop").apply(text)) == letters(TextRules().apply(text))


@given(RULES)
def test_rules_are_read_as_they_were_written(rules: TextRules) -> None:
    assert rules_from_json(rules.as_json()) == rules


@pytest.mark.parametrize("change", [{"casing": "odd"}, {"casing": ["lower"]}, {"language": 3}, {"more": 1}])
def test_rules_that_nobody_wrote_are_refused(change: dict[str, object]) -> None:
    for value in ({**TextRules().as_json(), **change}, None, "lower"):
        with pytest.raises(UserError, match="rules of text"):
            rules_from_json(value)


def test_an_apostrophe_has_other_spellings_and_a_letter_has_parts() -> None:
    assert alternatives("’")[0] == "'"
    assert "’" in alternatives("'")
    assert alternatives("é") == ("e\u0301",)
    assert alternatives("e") == ()


def test_characters_are_dropped_as_punctuation_is() -> None:
    assert without("a, b,c 你,好", {","}) == "a b c 你好"
