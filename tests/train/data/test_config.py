from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from train.data.config import DataConfig


def data(**given: Any) -> DataConfig:
    return DataConfig.model_validate(given)


def test_one_source_or_several() -> None:
    assert [source.source for source in data(train="a.jsonl").sources] == ["a.jsonl"]
    both = data(train=["a.jsonl", {"source": "b.jsonl", "format": "manifest"}])
    assert [source.source for source in both.sources] == ["a.jsonl", "b.jsonl"]
    again = DataConfig.model_validate(both.model_dump(mode="json"))
    assert again == both
    wrong: list[tuple[Any, str]] = [
        ([], "no source to train on"),
        ([{"source": "a", "weight": 1}, "b"], "every source has a weight, or none"),
        ([{"source": "hf:a/b", "streaming": True}, "b"], "the size of a stream is unknown"),
    ]
    for given, message in wrong:
        with pytest.raises(ValidationError, match=message):
            data(train=given)
