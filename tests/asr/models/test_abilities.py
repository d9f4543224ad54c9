from __future__ import annotations

import pytest

from asr.errors import UserError
from asr.models.abilities import Refusal, require
from asr.models.family import CTC, WHISPER, family_named


def test_the_sentence_is_of_the_first_ability_that_is_not_there() -> None:
    refusals = {"prompt": Refusal("reads no prompt", "leave it out"), "temperature": Refusal("has no chance", "")}
    require("ctc", ["word times"], refusals)  # type: ignore[arg-type]
    with pytest.raises(UserError) as raised:
        require("ctc", ["word times", "prompt", "temperature"], refusals)  # type: ignore[arg-type]
    assert str(raised.value) == "'ctc' reads no prompt (leave it out)"


def test_whisper_does_all_but_translate_what_is_english_and_its_keywords_are_its_prompt() -> None:
    family = family_named(WHISPER)
    assert set(family.refusals(frozenset({"en", "it"}))) == {"keywords"}
    assert set(family.refusals(frozenset({"en"}))) == {"keywords", "translation"}
    with pytest.raises(UserError, match="'base' is a Whisper model and takes no keywords"):
        require("base", ["keywords"], family.refusals(frozenset({"it"})))


def test_ctc_takes_keywords_and_gives_times_and_nothing_that_needs_a_decoder() -> None:
    refusals = family_named(CTC).refusals(frozenset({"it"}))
    assert set(refusals) == {"translation", "prompt", "temperature", "language detection"}
    require("ctc", ["keywords", "segment times", "word times"], refusals)
    with pytest.raises(UserError, match="'ctc' is a CTC model and detects no language"):
        require("ctc", ["word times", "language detection"], refusals)
