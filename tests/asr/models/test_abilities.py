from __future__ import annotations

import pytest

from asr.errors import UserError
from asr.models.abilities import Refusal, require
from asr.models.family import WHISPER, family_named


def test_the_sentence_is_of_the_first_ability_that_is_not_there() -> None:
    refusals = {"prompt": Refusal("reads no prompt", "leave it out"), "temperature": Refusal("has no chance", "")}
    require("ctc", ["word times"], refusals)  # type: ignore[arg-type]
    with pytest.raises(UserError) as raised:
        require("ctc", ["word times", "prompt", "temperature"], refusals)  # type: ignore[arg-type]
    assert str(raised.value) == "'ctc' reads no prompt (leave it out)"


def test_whisper_does_all_but_translate_what_is_english() -> None:
    family = family_named(WHISPER)
    assert family.refusals(frozenset({"en", "it"})) == {}
    assert set(family.refusals(frozenset({"en"}))) == {"translation"}
