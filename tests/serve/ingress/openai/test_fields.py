from __future__ import annotations

import pytest

from serve.errors import ApiError
from serve.ingress.openai.fields import Fields, unknown, wrong


def test_an_empty_field_is_its_default() -> None:
    empty = {name: "" for name in Fields.model_fields if name not in ("model", "timestamp_granularities")}
    asked = Fields.model_validate({"model": "m", **empty})
    assert asked.model_dump(exclude={"chunking_strategy"}) == Fields(model="m").model_dump(
        exclude={"chunking_strategy"}
    )


def test_text_becomes_what_it_says() -> None:
    asked = Fields.model_validate({"model": "m", "temperature": "0.4", "stream": "TRUE", "track": " 007 "})
    assert (asked.temperature, asked.stream, asked.track) == (0.4, True, 7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": "it", "language_per_window": "1"}, "detects languages, but 'language' is 'it'"),
        ({"timestamp_granularities": ["word"]}, "needs response_format=verbose_json, not json"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        Fields.model_validate({"model": "m", **fields})
    assert (refused.value.status, refused.value.param) == (400, next(iter({*fields} - {"language"})))


def test_what_is_refused_is_named() -> None:
    assert unknown("modle", ("model",)).message == "unknown parameter 'modle', did you mean 'model'?"
    assert (wrong("track", "no").code, wrong("track", "no").param) == ("invalid_value", "track")
