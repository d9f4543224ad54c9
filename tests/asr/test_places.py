"""Places in a configuration mean one thing, whoever reads them in whichever folder."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import asr
import cluster
import serve
import train
from asr.config import Section, resolve
from asr.places import Mark, absolute, as_moved, mark_of, settled
from serve.config import ServeConfig
from train.config import TrainConfig

LOOKS_LIKE_A_PLACE = re.compile(
    r"(^|_)(folder|path|paths|file|files|dir|source|sources|base|model|models|registry|keys|log|place|uri|url|address"
    r"|manifest|artifact|out|output|cache|store|noise|noises|impulse|responses)$"
)
# Text that only sounds like a place, or that names one for somebody else to find.
NO_PLACES = {
    "RolloutRequest.artifact": "sent to an endpoint, which finds it from where it stands",
    "Card.files": "names inside of an artifact",
    "Export.files": "names inside of an export",
    "Card.base": "a section of its own",
}


def sections() -> Iterator[type[BaseModel]]:
    """All configuration models of the project."""
    packages: tuple[ModuleType, ...] = (asr, cluster, train, serve)
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "asr.scoring.metrics." not in found.name and not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    waiting = list(Section.__subclasses__())
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if not model.__module__.startswith("tests"):
            yield model


def holds_text(annotation: Any) -> bool:
    return "str" in re.findall(r"\w+", str(annotation)) or "Path" in str(annotation)


def test_every_field_that_looks_like_a_place_is_declared_to_be_one() -> None:
    found = set()
    undeclared = []
    for model in sections():
        for name, field in model.model_fields.items():
            key = f"{model.__name__}.{name}"
            if mark_of(field) is not None:
                found.add(key)
            elif "Path" in str(field.annotation) or (
                LOOKS_LIKE_A_PLACE.search(name) and holds_text(field.annotation) and key not in NO_PLACES
            ):
                undeclared.append(key)
    assert undeclared == []
    assert found >= {"SourceConfig.source", "TrainConfig.base", "RunConfig.folder", "Noise.folder"}
    assert found >= {f"ServeConfig.{name}" for name in ("model", "models", "registry", "keys", "access_log")}


def test_a_config_started_from_the_folder_above_means_the_same_files_in_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv-fr").mkdir()
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = ["base=checkpoint", "data.train=[cv-fr/train.tsv, ./more.jsonl]", "augment.noise.folder=../noise"]
    settings += [
        "parallelism=zero3",
        "deepspeed={zero_optimization: {offload_optimizer: {device: nvme, nvme_path: fast}}}",
    ]
    settings += ["data.validation={source: cv-fr, format: common_voice, split: dev}", "data.retention=~/other"]
    config = resolve(TrainConfig, None, settings).value
    assert config.base == f"{tmp_path}/checkpoint"
    assert [source.source for source in config.data.sources] == [
        f"{tmp_path}/cv-fr/train.tsv",
        f"{tmp_path}/more.jsonl",
    ]
    assert config.data.validation is not None and config.data.validation.source == f"{tmp_path}/cv-fr"
    assert config.data.retention is not None and config.data.retention.source == str(Path("~/other").expanduser())
    assert config.augment.noise.folder == f"{tmp_path.parent}/noise"
    offload = config.deepspeed["zero_optimization"]["offload_optimizer"]
    assert offload == {"device": "nvme", "nvme_path": f"{tmp_path}/fast"}
    assert config.run.folder == "runs"  # train.checkpoints.run_folder says where, which differs in a job
    monkeypatch.chdir("/")
    assert settled(config) == config


def test_an_endpoint_finds_its_files_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = ["models={a: one, b: openai/whisper-small, c: 's3://b/c'}", "keys=k.yaml", "registry=r.json"]
    config = resolve(ServeConfig, None, [*settings, "access_log=log/a.jsonl"]).value
    assert config.models == {"a": f"{tmp_path}/one", "b": "openai/whisper-small", "c": "s3://b/c"}
    assert (config.keys, config.registry) == (f"{tmp_path}/k.yaml", f"{tmp_path}/r.json")
    assert config.access_log == f"{tmp_path}/log/a.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "hf:owner/name",
        "hf://datasets/a",
        "prompts:it",
        "prompt:it",
        "builtin:base",
        "env:KEYS",
        "s3://b/c?x=1",
    ],
)
def test_addresses_and_names_stay_as_they_are(name: str) -> None:
    assert absolute(name) == name


def test_a_hub_id_is_a_folder_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub = Mark(hub=True)
    assert absolute("openai/whisper-small", hub) == "openai/whisper-small"
    (tmp_path / "openai" / "whisper-small").mkdir(parents=True)
    assert absolute("openai/whisper-small", hub) == f"{tmp_path}/openai/whisper-small"
    assert absolute("./nothing/here", hub) == f"{tmp_path}/nothing/here"


def test_what_lies_below_the_working_directory_is_equal_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        (folder / "checkpoint").mkdir(parents=True)
        monkeypatch.chdir(folder)
        seen.append(as_moved(resolve(TrainConfig, None, ["base=checkpoint", "data.train=/data/a.jsonl"]).value))
    assert seen[0] == seen[1]
    assert (seen[0].base, seen[0].data.sources[0].source) == ("checkpoint", "/data/a.jsonl")


@given(st.lists(st.sampled_from([".", "..", "a", "b c", "é", "x.jsonl"]), min_size=1, max_size=5).map("/".join))
def test_an_absolute_place_is_the_same_file_and_stays_itself(place: str) -> None:
    once = absolute(place)
    assert os.path.isabs(once)
    assert absolute(once) == once
    assert once == os.path.normpath(os.path.join(os.getcwd(), place))
