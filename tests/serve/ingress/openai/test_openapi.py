"""The document is what the endpoint does: its paths, its fields with their bounds, its answers and errors."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from serve.errors import ApiError
from serve.ingress.api import app
from serve.ingress.openai.fields import Fields
from serve.ingress.openai.openapi import document
from serve.ingress.openai.parameters import Parameters, read_parameters
from serve.models.rollout import RolloutRequest

DOCUMENT = document(app)
FORM = DOCUMENT["components"]["schemas"]["Form"]


def read(*pairs: tuple[str, str]) -> Parameters:
    return read_parameters([("model", "m"), *pairs])


def routes() -> dict[tuple[str, str], APIRoute]:
    """Every path and method that the application answers, those of the page and of the ingress."""
    every = [route for part in app.routes for route in part.original_router.routes]  # type: ignore[attr-defined]
    found = [route for route in every if isinstance(route, APIRoute)]
    assert len(found) == len(every)
    return {(route.path_format, method.lower()): route for route in found for method in route.methods}


@pytest.mark.medium
def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_route_is_in_it_and_says_what_it_does() -> None:
    told = {(path, method): told for path, found in DOCUMENT["paths"].items() for method, told in found.items()}
    assert set(told) == set(routes()) and len(told) >= 12
    for at, route in routes().items():
        assert told[at]["description"] == route.description, at
        names = {one["name"] for one in told[at].get("parameters", [])}
        assert names == {part[1:-1] for part in at[0].split("/") if part.startswith("{")}
        assert "422" not in told[at]["responses"]  # FastAPI's own shape of errors is never answered


def test_every_error_has_openais_shape() -> None:
    for path, found in DOCUMENT["paths"].items():
        for told in found.values():
            refused = {status: one for status, one in told["responses"].items() if status != "200"}
            assert "default" in refused
            for one in refused.values():
                assert one["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), path
    assert {"401", "404", "408", "413", "429", "503", "504"} <= set(
        DOCUMENT["paths"]["/v1/audio/transcriptions"]["post"]["responses"]
    )


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_an_upload_takes_the_fields_that_are_read(path: str) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    assert content["multipart/form-data"]["schema"] == {"$ref": "#/components/schemas/Form"}
    assert {name.removesuffix("[]") for name in FORM["properties"]} == {"file", *Fields.model_fields}
    assert FORM["required"] == ["file", "model"]
    assert all(one.get("description") for one in FORM["properties"].values())


def test_an_order_is_the_one_that_is_read() -> None:
    assert set(DOCUMENT["components"]["schemas"]["RolloutRequest"]["properties"]) == set(RolloutRequest.model_fields)


def samples() -> list[tuple[str, Any, bool]]:
    """Values of each field that the document allows, and some that it does not."""
    found = []
    for name, schema in FORM["properties"].items():
        for one in (*schema.get("anyOf", ()), schema, schema.get("items", {})):
            found += [(name, value, True) for value in one.get("enum", ())]
            found += [(name, one[bound], True) for bound in ("minimum", "maximum") if bound in one]
            found += [(name, one["minimum"] - 1, False)] if "minimum" in one else []
            found += [(name, one["maximum"] + 1, False)] if "maximum" in one else []
            found += [(name, "no such value", False)] if "enum" in one else []
            if one.get("type") == "boolean":
                found += [(name, "true", True), (name, "false", True), (name, "perhaps", False)]
            if "maxLength" in one:
                found += [(name, one["maxLength"] * "a", True), (name, (one["maxLength"] + 1) * "a", False)]
    return found


@pytest.mark.parametrize(("name", "value", "allowed"), samples(), ids=lambda value: str(value)[:20])
def test_what_it_allows_is_taken_and_what_it_does_not_is_refused(name: str, value: Any, allowed: bool) -> None:
    pairs = [(name, str(value))]
    if name.startswith("timestamp"):
        pairs.append(("response_format", "verbose_json"))
    if allowed:
        read(*pairs)
        return
    with pytest.raises(ApiError) as refused:
        read(*pairs)
    assert (refused.value.status, refused.value.param) == (400, name.removesuffix("[]"))


def test_a_default_is_what_a_field_that_is_left_out_means() -> None:
    for name, schema in FORM["properties"].items():
        if schema.get("default") not in (None, "", []):
            assert read((name, str(schema["default"]).lower())) == read(), name
