from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml

from asr.errors import UserError
from asr.utterance import Utterance
from tests.train.checks.doctored import subject, tiny_checkpoint
from train.checks import nodes
from train.checks.check import NODE_STEPS, STEPS
from train.checks.cli import check


@pytest.fixture
def recipe(tmp_path: Path, english_clips: list[Utterance]) -> Path:
    """A configuration file of a run on an English checkpoint of random weights."""
    base = tiny_checkpoint(tmp_path / "base", "builtin:tiny.en")
    config = subject(tmp_path, base, english_clips[:4]).config
    content = {"base": config.base, "data": {"train": str(tmp_path / "train.jsonl")}, "run": {"folder": str(tmp_path)}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "mine.yaml"


@pytest.mark.usefixtures("ray_cluster")
def test_numbered_lines_for_people(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(recipe)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"[ 1/{len(STEPS)}] data ... ok (4 of 4 rows decoded, ")
    assert sum(line.startswith("[") for line in lines) == len(STEPS)
    assert lines[-1].endswith(" ok, 3 skipped")


@pytest.mark.usefixtures("ray_cluster")
def test_a_failure_says_what_to_do_and_ends_in_exit_code_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        check(recipe, ["workers.count=99", "batching.micro_batches_per_step=99", "workers.cpus_each=9"])
    assert ended.value.exit_code == 2
    printed = capsys.readouterr().out
    assert "cluster ... failed: training needs 891 CPUs, the cluster has" in printed
    assert "        lower workers.count or workers.cpus_each\n" in printed
    assert printed.endswith(" 3 skipped, 1 failed\n")


@pytest.mark.usefixtures("ray_cluster")
def test_a_list_for_machines(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        check(recipe, ["strategy=qlora"], as_json=True)
    assert ended.value.exit_code == 2
    steps = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in steps] == [step.name for step in STEPS]
    assert [step["step"] for step in steps] == list(range(1, len(STEPS) + 1))
    failed = next(step for step in steps if step["state"] == "failed")
    assert failed["name"] == "machine" and "GPU" in failed["detail"] and "strategy=lora" in failed["hint"]
    assert next(step for step in steps if step["name"] == "gradients")["state"] == "skipped"


@pytest.mark.medium
def test_a_mistake_in_the_file_is_told_before_any_step(recipe: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        check(recipe, ["optim.max_step=3"])


@pytest.mark.usefixtures("ray_cluster")
def test_the_nodes_are_looked_at_without_a_configuration_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHISPERFLEET_STORAGE", str(tmp_path / "shared"))
    monkeypatch.setattr(nodes, "SCARCE", 0.0)
    check(cluster=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"[ 1/{len(NODE_STEPS)}] nodes ... ok (1 nodes, ")
    assert any(f"shared storage ... ok ({tmp_path / 'shared'}: " in line for line in lines)
    assert lines[-1] == "7 ok, 2 skipped"


def test_something_has_to_be_looked_at_from_where_it_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="what shall be checked"):
        check()
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match=r"whisperfleet submit --follow -- check --cluster"):
        check(cluster=True)
