from __future__ import annotations

import pytest
from transformers import WhisperTokenizer

from asr.models.family import SpeechModel
from asr.scoring.characters import Characters, OddCharacter


@pytest.fixture
def odd(tiny_en: SpeechModel) -> dict[str, OddCharacter]:
    tokenizer: WhisperTokenizer = tiny_en.tokenizer
    characters = Characters(examples=2)
    for number in range(300):
        characters.add(f"it/{number}", "perché no, così è più bello")
    characters.add("stray", "pаrola")  # the second letter is Cyrillic
    characters.add("control", "ciao\x07 \ufffd")
    for id in ("ox1", "ox2", "ox3"):
        characters.add(id, "ox \N{CUNEIFORM SIGN GUD}")
    characters.add("rare", "§ Zz 9")
    found = characters.odd(lambda text: len(tokenizer(text, add_special_tokens=False).input_ids))
    return {each.character: each for each in found}


def test_each_odd_character_is_named_with_its_reason_and_where_it_is(odd: dict[str, OddCharacter]) -> None:
    assert odd["а"].name == "CYRILLIC SMALL LETTER A"
    assert odd["а"].why == ("other_script", "rare") and odd["а"].examples == ("stray",)
    assert odd["\x07"].why[0] == "control" and odd["\x07"].name == "unnamed"
    assert odd["\ufffd"].why[0] == "control"
    ox = odd["\N{CUNEIFORM SIGN GUD}"]
    assert (ox.why, ox.count, ox.examples) == (("other_script", "many_tokens"), 3, ("ox1", "ox2"))
    assert ox.tokens >= 3
    assert odd["§"].why == ("rare",)


def test_ordinary_text_is_not_listed(odd: dict[str, OddCharacter]) -> None:
    assert set(odd) == {"а", "\x07", "\ufffd", "\N{CUNEIFORM SIGN GUD}", "§"}
    assert next(iter(odd)) == "\N{CUNEIFORM SIGN GUD}"  # the most frequent first


def strays(*texts: str) -> set[str]:
    """The characters of another script than the others."""
    characters = Characters(examples=1)
    for number, text in enumerate(texts):
        characters.add(str(number), text)
    return {each.character for each in characters.odd(lambda text: 1) if "other_script" in each.why}


def test_marks_that_belong_to_a_language_were_taken_for_strays() -> None:
    """The first word of a letter's name was its script: KATAKANA-HIRAGANA, IDEOGRAPHIC, MODIFIER were none of these."""
    assert not strays("ラーメンを食べる " * 300, "人々", "〆切", "ｱ")
    assert not strays("oʻzbek tili " * 300, "maʼno", "gʻalaba")
    assert not strays("한국말 " * 300, "漢字")


def test_a_stray_among_them_is_still_one() -> None:
    assert strays("ラーメンを食べる " * 300, "말", "а") == {"말", "а"}
    assert strays("中文和汉字" * 300, "の") == {"の"}
    assert strays("bello " * 300, "ｆｕｌｌ") == set()  # a wide form is a Latin letter all the same
