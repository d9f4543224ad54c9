from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.naming import short_names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("/home/me/runs/demo-1/artifact", "demo-1"),
        ("/home/me/runs/demo-1/artifact/", "demo-1"),
        ("runs/demo-1/artifact", "demo-1"),
        ("./mine/artifact", "mine"),
        ("~/models/whisper-it", "whisper-it"),
        ("C:\\runs\\demo-1\\artifact", "demo-1"),
        ("s3://bucket/runs/demo-1/artifact?endpoint_override=127.0.0.1:9000&scheme=http", "demo-1"),
        ("/runs/sweep-1/best", "sweep-1/best"),
        ("/runs/demo-1/checkpoint-100", "demo-1/checkpoint-100"),
        ("/artifact", "artifact"),
        ("/", "/"),
        ("builtin:base", "builtin:base"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("step 50", "step 50"),
        ("", ""),
    ],
)
def test_a_model_is_named_by_its_run(name: str, short: str) -> None:
    assert short_names([name]) == {name: short}


def test_runs_of_one_name_are_told_apart() -> None:
    names = ["/a/runs/demo-1/artifact", "/b/runs/demo-1/artifact", "/b/runs/demo-2/artifact", "builtin:base"]
    assert list(short_names(names).values()) == ["a/runs/demo-1", "b/runs/demo-1", "demo-2", "builtin:base"]
    assert list(short_names(["/a/x", "/a/x/artifact"]).values()) == ["/a/x", "/a/x/artifact"]


paths = st.lists(st.sampled_from(["a", "b", "runs", "artifact", "best", ".", ""]), min_size=1, max_size=4).map("/".join)


@given(st.lists(paths | paths.map("/{}".format) | paths.map("s3://{}".format), max_size=5))
def test_names_of_different_models_differ(names: list[str]) -> None:
    short = short_names(names)
    assert set(short) == set(names)
    assert len(set(short.values())) == len(short)
