from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.errors import DataError
from train.data.filters import Filters, character_name


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (" ... ", "no_transcript", "no letter"),
        ("sì", "too_few_characters", "under 3"),
        ("così жив!", "foreign_characters", "U+0021 ! EXCLAMATION MARK, U+0432 в CYRILLIC SMALL LETTER VE, "),
    ],
)
def test_transcripts_that_are_unfit(text: str, reason: str, detail: str) -> None:
    with pytest.raises(DataError) as caught:
        Filters(min_chars=3, allowed_characters="a-zì ").check_text(text)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_composed_and_decomposed_accents_are_the_same_character() -> None:
    for allowed, text in (("a-zì", "cosi\u0300"), ("a-zi\u0300", "così")):
        Filters(allowed_characters=allowed).check_text(text)


def test_speaking_rate_both_ways() -> None:
    filters = Filters(min_chars_per_s=2, max_chars_per_s=20)
    filters.check_rate("x" * 20, 1.0)
    filters.check_rate("x" * 20, 10.0)
    with pytest.raises(DataError, match=r"text_too_long: 21 characters in 1.00 s"):
        filters.check_rate("x" * 21, 1.0)
    with pytest.raises(DataError, match=r"text_too_short: 19 characters in 10.00 s"):
        filters.check_rate("x" * 19, 10.0)


@pytest.mark.parametrize(("length_s", "reason"), [(0.19, "too_short"), (30.01, "too_long")])
def test_length(length_s: float, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Filters().check_length(length_s)
    Filters().check_length(30.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_chars_per_s": 30}, "min_chars_per_s=30 is not below max_chars_per_s=25"),
        ({"allowed_characters": "z-a"}, "allowed_characters='z-a' is no set of characters"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Filters(**settings)


def test_characters_are_named_even_if_they_have_no_shape() -> None:
    assert character_name("ж") == "U+0436 ж CYRILLIC SMALL LETTER ZHE"
    assert character_name("\u200b") == "U+200B ZERO WIDTH SPACE"
    assert character_name("\x07") == "U+0007 unnamed"
