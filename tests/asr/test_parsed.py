import json

import pytest
from pydantic import TypeAdapter, ValidationError

from asr.parsed import JsonObject

OBJECT = TypeAdapter(JsonObject)


def test_an_object_is_kept_as_it_is_whatever_its_values_are() -> None:
    found = {"a": [1, {"b": None}], "c": "1", "d": True, "e": 0.5}
    assert OBJECT.validate_json(json.dumps(found)) == found


@pytest.mark.parametrize("text", ["[]", '"a"', "1", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        OBJECT.validate_json(text)
