from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.config import Section, resolve
from asr.data.sources import SourceConfig


class Both(Section):
    train: SourceConfig | list[SourceConfig]


def test_a_plain_string_is_a_source() -> None:
    assert Both.model_validate({"train": "my.jsonl"}).train == SourceConfig(source="my.jsonl")
    assert resolve(Both, overrides=["train=prompts:it"]).value.train == SourceConfig(source="prompts:it")
    listed = Both.model_validate({"train": ["a.csv", {"source": "b", "weight": 2}]}).train
    assert listed == [SourceConfig(source="a.csv"), SourceConfig(source="b", weight=2)]


def test_languages_become_codes() -> None:
    assert SourceConfig(source="x", language="Italian").language == "it"
    assert SourceConfig(source="x", language="Dhivehi").language == "dv"
    with pytest.raises(ValidationError, match="'Itallian' is not a known language"):
        SourceConfig(source="x", language="Itallian")


def test_columns_are_fields_of_an_utterance() -> None:
    with pytest.raises(ValidationError, match=r"'texts' is no field of an utterance \(did you mean 'text'\?\)"):
        SourceConfig(source="x", columns={"texts": "sentence"})
    with pytest.raises(ValidationError):
        SourceConfig(source="x", weight=0)
