"""The Dockerfile: its stages, what it copies, what it is built from, and what must not be in it."""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from docker.utils import exclude_paths
from dockerfile_parse import DockerfileParser
from packaging.specifiers import SpecifierSet

from cluster.ray_settings import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "cluster/Dockerfile"
TARGETS = ("cpu", "cuda")
MAX_BYTES = 20_000_000


def stages() -> dict[str, list[dict[str, Any]]]:
    """The instructions of each stage, by its name."""
    found: dict[str, list[dict[str, Any]]] = {"": []}  # what stands before the first one
    name = ""
    for instruction in DockerfileParser(fileobj=io.BytesIO(DOCKERFILE.read_bytes())).structure:
        if instruction["instruction"] == "FROM":
            name = instruction["value"].rpartition(" AS ")[2]
            found[name] = []
        if instruction["instruction"] != "COMMENT":
            found[name].append(instruction)
    return found


def values(stage: str, kind: str) -> list[str]:
    return [one["value"] for one in stages()[stage] if one["instruction"] == kind]


def inherited(stage: str, kind: str) -> str:
    """The value that an image has: its own last one, or that of the stage it begins with."""
    found = values(stage, kind)
    return found[-1] if found else inherited(values(stage, "FROM")[0].partition(" AS ")[0], kind)


def context() -> set[str]:
    """The files that a build is given, by the rules of .dockerignore as Docker's own client has them."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    paths = exclude_paths(str(ROOT), patterns, dockerfile="cluster/Dockerfile")
    return {path for path in paths if (ROOT / path).is_file()}


def test_each_stage_begins_with_one_before_it_or_with_a_python_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (base,) = values("", "ARG")
    version = re.fullmatch(r"BASE=python:(3\.\d+)-slim-bookworm@sha256:[0-9a-f]{64}", base)  # no tag: those move
    assert version and version[1] in SpecifierSet(project["requires-python"])
    known = {"${BASE}"}
    for name in stages():
        if name:
            assert values(name, "FROM")[0].partition(" AS ")[0] in known
            known.add(name)
    assert set(TARGETS) <= known


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_nobody_s_root_says_how_it_is_and_has_the_tested_packages(target: str) -> None:
    assert inherited(target, "USER") == "1000"  # a number: Kubernetes cannot tell that a name is not root
    assert "/readyz" in inherited(target, "HEALTHCHECK")
    assert inherited(target, "WORKDIR") == "/home/ray"
    (venv,) = [copy for copy in values(target, "COPY") if "--from=" in copy]
    packages = re.search(r"--from=(\S+)", venv)
    assert packages
    commands = [
        command
        for run in values(packages[1], "RUN")
        for command in run.split("&&")
        if command.strip().startswith("pip")
    ]
    *listed, ours, check = commands
    assert len(listed) == 2 and check.strip() == "pip check"
    for command in listed:
        assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command.split())
    # what a build fetches for itself has no hash: the one package without a wheel is built with what is there
    assert "--no-binary deepspeed --no-build-isolation" in listed[1] and ours.strip().endswith("--no-build-isolation .")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_runs_in_a_container_can_change_its_code(target: str) -> None:
    copies = values(target, "COPY")
    assert {copy.split()[-1] for copy in copies} == {"/opt/venv", "/app"}
    assert not [copy for copy in copies if "--chown" in copy or "--chmod" in copy]
    instructions = [one["instruction"] for one in stages()[target]]
    assert instructions.index("USER") > max(place for place, kind in enumerate(instructions) if kind in ("COPY", "RUN"))
    assert any("compileall -q /app" in run for run in values(target, "RUN"))  # nobody can later
    assert "PYTHONDONTWRITEBYTECODE=1" in inherited(target, "ENV") + values("base", "ENV")[0]


def test_ray_is_told_what_a_ray_is_told_that_we_start() -> None:
    said = dict(word.split("=", 1) for word in values("base", "ENV")[0].split())
    named = {name for name in said if name.startswith("RAY_")}
    assert named and {name: said[name] for name in named} == {name: ENVIRONMENT[name] for name in named}
    assert {name for name in ENVIRONMENT if name.startswith("RAY_SERVE_")} <= named


def test_what_is_copied_is_given_to_the_build() -> None:
    given = context()
    for name in stages():
        for copy in values(name, "COPY"):
            *sources, _ = [word for word in copy.split() if not word.startswith("--")]
            if "--from=" not in copy:
                assert all(source == "." or source in given for source in sources), copy


def test_the_build_is_given_the_program_and_no_weights_speech_or_secrets() -> None:
    given = context()
    assert {"pyproject.toml", "constraints.txt", "whisperfleet/__main__.py", "asr/scoring/report.html.j2"} <= given
    assert {"serve/ingress/static/index.html", "configs/demo.yaml"} <= given
    first = {Path(path).parts[0] for path in given}
    assert first <= {
        *("asr", "cluster", "configs", "serve", "train", "whisperfleet"),
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE", ".dockerignore"),
    }
    assert not [path for path in given if re.search(r"\.(safetensors|bin|pt|onnx|wav|flac|mp3|pem|key)$", path)]
    assert sum((ROOT / path).stat().st_size for path in given) < MAX_BYTES


def test_login_shells_find_the_commands() -> None:
    """`ray up` runs everything in one, and Debian's begins with a PATH of its own."""
    assert any("/opt/venv/bin" in run and "/etc/profile.d/" in run for run in values("base", "RUN"))
    assert "rsync" in " ".join(values("base", "RUN"))
