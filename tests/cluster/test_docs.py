"""What docs/cluster.md tells people to type: every command, file and link of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from ray.scripts.scripts import cli as ray_cli
from ray.serve.scripts import cli as serve_cli

from asr.config import resolve
from serve.config import ServeConfig
from train.config import TrainConfig
from whisperfleet.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/cluster.md"
TEXT = GUIDE.read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in FENCES if not language for line in block.replace("\\\n", " ").splitlines()]
KNOWN = {"curl", "docker", "export", "kubectl", "mkdir", "openssl", "printf", "prometheus", "squeue", "tail"}
SECTIONS = {"train": TrainConfig, "check": TrainConfig, "serve": ServeConfig}


def check_verb(words: list[str]) -> None:
    """Fail where ``whisperfleet`` would not take these words."""
    if "--" in words:  # submit: the options are its own, and what follows is a command of ours
        check_verb(words[words.index("--") + 1 :])
        words = words[: words.index("--")]
    verb, *rest = words
    entry: Any = VERBS[verb]
    while isinstance(entry, Mapping):
        entry = entry[rest.pop(0)] if rest and rest[0] in entry else entry[""]
    module, function = entry[0].split(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    signature = source[source.index(f"def {function}(") :].partition("-> None")[0]
    for option in (word.removeprefix("--") for word in rest if word.startswith("--")):
        assert re.search(rf"\b{option.replace('-', '_')}\b", signature), option
    if verb in SECTIONS:
        file = next((ROOT / word for word in rest if word.endswith(".yaml") and "=" not in word), None)
        model = [f"model={rest[0]}"] if verb == "serve" else []
        if file or model:  # `check --cluster` does without
            resolve(SECTIONS[verb], file, [*model, *(word for word in rest if "=" in word)])


def check_click(cli: Any, words: list[str]) -> None:
    """Fail where a program that is made with click has not this command, or the command not these options."""
    command = cli.commands[words[0]]
    options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= options


def test_there_are_commands_for_every_way() -> None:
    assert {language for language, _ in FENCES} <= {"", "yaml"}
    programs = {shlex.split(command)[0].rpartition("/")[2] for command in COMMANDS}
    assert {"whisperfleet", "ray", "serve", "kubectl", "sbatch", "docker", "prometheus"} <= programs


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists_and_its_files_too(command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    if program.endswith("whisperfleet"):
        check_verb(words)
    elif words[:2] == ["-m", "pytest"]:
        assert all((ROOT / place).exists() for place in words[2:])
    elif program == "sbatch":
        script = next(number for number, word in enumerate(words) if word.endswith(".sbatch"))
        check_verb(words[script + 1 :])
    elif program == "docker" and "whisperfleet" in words:
        check_verb(words[words.index("whisperfleet") + 1 :])
    elif program in ("ray", "serve"):
        check_click(ray_cli if program == "ray" else serve_cli, words)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    else:
        assert program in KNOWN
    for place in re.findall(r"\b(?:cluster|configs)/[\w./-]+\.\w+|\bcluster/Dockerfile", command):
        assert (ROOT / place).is_file(), place


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", TEXT, re.M)
    }
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (GUIDE.parent / path).exists(), target
        assert path or anchor in headings, target


def test_every_file_to_copy_is_named() -> None:
    for folder in ("kuberay", "ray-up", "slurm", "prometheus", "grafana"):
        for path in (ROOT / "cluster" / folder).iterdir():
            assert path.name in TEXT, path


def test_no_secret_is_an_argument_of_a_command() -> None:
    """Every process of a machine may read what the others were called with; `printf` is the shell itself."""
    for path in [GUIDE, *(ROOT / "docs").glob("*.md"), *(ROOT / "cluster").rglob("*.*ml"), ROOT / "README.md"]:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "--from-literal" not in line, path
            assert not re.search(r"curl .*Bearer|--key[ =](?!-file)[\w$]|--var \w*(TOKEN|KEY)=", line), path


def test_names_of_secrets_and_services_are_those_of_the_files() -> None:
    files = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "cluster/kuberay").iterdir())
    for name in re.findall(r"create secret generic ([\w-]+)", TEXT):
        assert f"ecretName: {name}" in files
    for kind, name in re.findall(r"kubectl get (rayjob|rayservice) ([\w-]+)", TEXT):
        assert re.search(rf"kind: {kind}\nmetadata:\n  name: {name}\n", files, re.IGNORECASE)
