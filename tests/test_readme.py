"""What the README tells people to type, to write and to expect."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from asr.config import resolve
from asr.data.manifest import read_manifest
from serve.config import ServeConfig
from train.config import TrainConfig
from train.data.prepare import PrepareConfig
from whisperfleet.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for language, block in FENCES
    if not language
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"(\.venv/bin/whisperfleet|ray job submit|make )", line)
]
SECTIONS = {"train": TrainConfig, "serve": ServeConfig, "data": PrepareConfig}


def blocks(language: str) -> list[str]:
    return [block for named, block in FENCES if named == language]


def test_the_readme_holds_commands() -> None:
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_exists_and_its_settings_are_valid(command: str) -> None:
    words = shlex.split(command.partition("#")[0])
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        return
    start = next(i for i, word in enumerate(words) if word.endswith("whisperfleet"))
    verb, *rest = words[start + 1 :]
    assert verb in VERBS
    section = SECTIONS.get(verb)
    if section is None:
        return
    settings = [word for word in rest if "=" in word]
    config = next((ROOT / word for word in rest if word.endswith(".yaml")), None)
    required = ["model=builtin:base"] if section is ServeConfig else []
    resolve(section, config, [*required, *settings])


def test_the_manifest_line_of_the_readme_is_one(tmp_path: Path) -> None:
    (example,) = blocks("json")
    (tmp_path / "mine.jsonl").write_text(example, encoding="utf-8")
    (utterance,) = read_manifest(tmp_path / "mine.jsonl")
    assert utterance.language == "it"
    assert utterance.text


def test_the_python_of_the_readme_compiles() -> None:
    assert blocks("python")
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
