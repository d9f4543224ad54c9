"""What the guides in docs/ tell people to type and to write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from asr.config import resolve
from docs.generate import configuration, modules, tree
from train.config import TrainConfig
from train.data.prepare import PrepareConfig
from whisperfleet.cli import ITSELF, VERBS

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide.md"
SOURCES = ROOT / "docs" / "sources.md"
FENCES = [
    fence
    for page in (GUIDE, SOURCES)
    for fence in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
]
BLOCKS = [block for language, block in FENCES if language == "yaml"]
COMMANDS = [line for language, block in FENCES if not language for line in block.splitlines()]
SECTIONS = {"train": TrainConfig, "check": TrainConfig, "plan": TrainConfig, "prepare": PrepareConfig}

# What a fragment leaves out because it is about something else.
REST = {"base": "builtin:base", "data": {"train": "data/train.jsonl"}}


def test_the_guide_holds_blocks_and_commands_and_is_short() -> None:
    assert len(BLOCKS) >= 10
    assert len(COMMANDS) >= 7
    assert len(GUIDE.read_text(encoding="utf-8").splitlines()) < 250
    assert {language for language, _ in FENCES} == {"", "yaml"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0])
def test_a_block_of_the_guide_is_part_of_a_valid_configuration(block: str, tmp_path: Path) -> None:
    written = yaml.safe_load(block)
    (tmp_path / "block.yaml").write_text(yaml.safe_dump(REST | written), encoding="utf-8")
    config = resolve(TrainConfig, tmp_path / "block.yaml").value
    for section in written:
        assert section in config.model_fields_set


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_exists_and_its_settings_are_valid(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "whisperfleet"
    verbs = VERBS
    while isinstance(verbs, dict):
        if words[0] in verbs:
            verb, *words = words
            verbs = verbs[verb]
        else:
            verbs = verbs[ITSELF]
    options = {word for word in words if word.startswith("--")}
    module, function = verbs[0].split(":")
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    signature = text[text.index(f"def {function}(") :].partition("-> None")[0]
    for option in options:
        assert re.search(rf"\b{option.removeprefix('--').replace('-', '_')}\b", signature), option
    if (section := SECTIONS.get(verb)) is not None:
        file = next((ROOT / word for word in words if word.endswith(".yaml")), None)
        settings = [word for word in words if "=" in word]
        resolve(section, file, settings)


@pytest.mark.medium
def test_pages_that_the_code_tells_are_as_make_docs_writes_them() -> None:
    for name, page in {"tree.md": tree(), "configuration.md": configuration()}.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page, f"docs/{name}: run make docs"


def test_each_key_is_explained() -> None:
    rows = [line for line in configuration().splitlines() if line.startswith("| `")]
    assert len(rows) > 120
    for row in rows:
        *_, explained, end = row.split(" |")
        assert explained.strip() and not end, row


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", GUIDE.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert (GUIDE.parent / target).exists(), target


def test_the_commands_and_metrics_of_the_runbook_exist() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    commands = re.findall(r"whisperfleet ([a-z]+)(?: ([a-z]+))?", text)
    assert len(commands) >= 8
    for verb, second in commands:
        assert verb in VERBS
        assert not isinstance(VERBS[verb], dict) or second in VERBS[verb], (verb, second)
    metrics = (ROOT / "serve/ingress/telemetry/metrics.py").read_text(encoding="utf-8")
    named = re.search(r"whisperfleet_\(([^)]+)\)", text)
    assert named
    for name in [*named[1].split("|"), *re.findall(r"whisperfleet_(\w+_total)", text)]:
        assert f'"{name.removesuffix("_total")}"' in metrics, name
    for said in ("so far", "the weights are beyond all bounds since the step before", "text that repeats itself in"):
        assert said in text and any(said in path.read_text(encoding="utf-8") for path in modules())


def test_every_reason_for_a_quarantine_is_explained() -> None:
    told = set(re.findall(r"`([a-z_]+)`", SOURCES.read_text(encoding="utf-8")))
    raised = re.compile(r'(?:DataError|_Fault)\(\s*"([a-z_]+)"|Quarantined\([^,()]+, "([a-z_]+)"')
    found: set[str] = set()
    for folder in ("asr", "train", "serve"):
        for module in (ROOT / folder).rglob("*.py"):
            found |= {first or second for first, second in raised.findall(module.read_text(encoding="utf-8"))}
    assert len(found) > 25 and not found - told
