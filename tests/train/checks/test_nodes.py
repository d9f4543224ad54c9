"""A cluster of two nodes, and of a third one that is unlike them in every way that a check can name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import S3FileSystem

from asr.errors import UserError
from asr.utterance import Utterance
from cluster.survey import Node
from tests.train.checks.doctored import subject
from train.checks import nodes as checks
from train.checks.nodes import Nodes

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Looked:
    """The outcomes of the steps on nodes that are alike, and once a third one is there, with its short id."""

    runs: Path
    alike: dict[str, Any]
    unlike: dict[str, Any]
    third: str


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory, s3_server: str, english_clips: list[Utterance]) -> Looked:
    """One cluster for both: its nodes take long to start."""
    folder = tmp_path_factory.mktemp("nodes")
    S3FileSystem(endpoint_override=s3_server, scheme="http", allow_bucket_creation=True).create_dir("speech")
    information = folder / "older" / "torch-1.0.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n")
    subject(folder, "builtin:tiny.en", english_clips[:1])
    settings = ["base=builtin:tiny.en", f"data.train={folder / 'train.jsonl'}"]
    third = {
        "PYTHONPATH": str(folder / "older"),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "WHISPERFLEET_CACHE": str(folder / "empty"),
    }
    on_two, on_three = [*settings, f"run.folder={folder / 'runs'}"], [*settings, "run.folder=s3://speech/runs"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.checks.several_nodes", *map(json.dumps, (third, on_two, on_three))],
        cwd=ROOT,
        env=inherited | {"AWS_ENDPOINT_URL": f"http://{s3_server}"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    return Looked(folder / "runs", printed["alike"], printed["unlike"], printed["third"][:6])


@pytest.mark.ray
@pytest.mark.long
def test_nodes_that_are_alike(looked: Looked) -> None:
    assert {name: outcome["state"] for name, outcome in looked.alike.items() if outcome["state"] != "ok"} == {
        "GPUs": "skipped"
    }
    assert looked.alike["nodes"]["detail"].startswith("2 nodes, 3 CPUs, 0 GPUs: ")
    assert looked.alike["network"]["detail"] == "2 nodes reach each other, gloo adds up over all"
    assert list(looked.runs.rglob("*")) in ([], [looked.runs / "whisper"])  # nothing is left behind


@pytest.mark.ray
@pytest.mark.long
def test_a_node_that_is_unlike_the_others_is_named(looked: Looked) -> None:
    name, outcomes = looked.third, looked.unlike
    assert outcomes["nodes"]["state"] == "ok" and outcomes["nodes"]["detail"].startswith("3 nodes, 4 CPUs, 0 GPUs: ")
    assert outcomes["network"]["detail"] == "3 nodes reach each other, gloo adds up over all"
    versions = outcomes["versions"]
    assert versions["state"] == "failed" and "torch 1.0.0 on" in versions["detail"]
    assert f"/{name}" in versions["detail"]
    assert "--packages pip" in versions["hint"]
    shared = outcomes["shared storage"]
    assert shared["state"] == "failed" and f"/{name} cannot write" in shared["detail"]
    assert shared["detail"].count("cannot write") == 1
    cache = outcomes["model cache"]
    assert cache["state"] == "warning" and cache["detail"].count("/builtin-tiny.en") == 1 and name in cache["detail"]


def nodes_with(facts: dict[str, Any], told: dict[str, int]) -> Nodes:
    found = Nodes([Node(name, told.get(name, 0), name, None) for name in facts])
    found.__dict__["facts"] = facts
    return found


H200, A10 = ("NVIDIA H200", 143771, "570.86"), ("NVIDIA A10", 23028, "570.86")


@pytest.mark.parametrize(
    ("seen", "told", "state", "said"),
    [
        ({"a": [], "b": []}, {}, "skipped", "no node has a GPU"),
        ({"a": [], "b": [H200, H200]}, {"b": 2}, "ok", "b: 2 x NVIDIA H200, 140 GiB, driver 570.86"),
        ({"a": [H200], "b": [A10]}, {"a": 1, "b": 1}, "warning", "they differ"),
        ({"a": [H200, H200]}, {"a": 1}, "warning", "Ray counts fewer on a"),
    ],
)
def test_gpus(seen: dict[str, Any], told: dict[str, int], state: str, said: str) -> None:
    outcome = checks.gpus(nodes_with({name: {"gpus": found} for name, found in seen.items()}, told))
    assert outcome.state == state and said in outcome.detail


def test_a_gpu_that_is_gone() -> None:
    with pytest.raises(UserError, match="a has 0, Ray counts 8"):
        checks.gpus(nodes_with({"a": {"gpus": []}}, {"a": 8}))


def test_code_that_differs() -> None:
    with pytest.raises(UserError, match=r"this code is \w{12}, b has none"):
        checks.same_code(nodes_with({"a": {"code": checks.code()}, "b": {"code": ""}}, {}))


def test_a_node_that_does_not_answer_is_named() -> None:
    with pytest.raises(UserError, match="b: no answer within 20 s"):
        checks._all({"a": 1}, {"b": "no answer within 20 s"})


def test_where_storage_is_not_known_it_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHISPERFLEET_STORAGE", raising=False)
    assert checks.shared_storage(Nodes([])).state == "skipped"
    assert checks.model_cache(Nodes([])).state == "skipped"
