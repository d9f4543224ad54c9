from __future__ import annotations

import pytest
from transformers import WhisperTokenizer

from asr.model import SpeechModel
from train.data.characters import Characters, OddCharacter


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
