"""The command line as a person meets it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest

from whisperfleet.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "whisperfleet", *words], capture_output=True, text=True, check=False)


def targets(table: Any = VERBS, prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, entry in table.items():
        rows += [(f"{prefix}{name}", entry[0])] if isinstance(entry, tuple) else targets(entry, f"{prefix}{name} ")
    return rows


@pytest.mark.medium
def test_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"whisperfleet {metadata.version('whisperfleet')}\n"


@pytest.mark.medium
def test_help_lists_every_verb_in_the_order_of_the_work() -> None:
    text = run("--help").stdout
    places = [text.index(f"│ {verb} ") for verb in VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize(("verb", "target"), targets())
def test_a_verb_s_function_exists(verb: str, target: str) -> None:
    module, function = target.split(":")
    assert callable(getattr(import_module(module), function)), verb


@pytest.mark.medium
def test_a_verb_has_its_own_help() -> None:
    done = run("data", "prepare", "--help")
    assert done.returncode == 0
    assert "--out" in done.stdout


@pytest.mark.medium
def test_a_verb_that_has_verbs_is_one_itself() -> None:
    assert "Usage: whisperfleet serve [OPTIONS]" in run("serve", "--help").stdout
    assert "rollback" in run("serve", "models", "--help").stdout
    assert "--canary" in run("serve", "models", "promote", "--help").stdout


@pytest.mark.medium
def test_a_misspelt_verb_gets_a_suggestion_and_exit_code_2() -> None:
    done = run("trian")
    assert done.returncode == 2
    assert "train" in done.stderr


@pytest.mark.medium
def test_a_person_s_mistake_is_one_line_and_exit_code_2() -> None:
    done = run("train", "no-such.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == "whisperfleet: no-such.yaml: no such configuration file (`whisperfleet recipe` has examples)\n"
    )


LIGHT = """
import contextlib, io, sys
import typer
from whisperfleet import __main__ as command
from whisperfleet.cli import VERBS

def helps(table, before=()):
    for name, entry in table.items():
        words = (*before, name) if name else before
        yield words
        yield from () if isinstance(entry, tuple) else helps(entry, words)

def answered(*words):
    sys.argv = ["whisperfleet", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code or 0
    late = sorted({"torch", "transformers", "ray"} & set(sys.modules))
    assert not late, (words, late)
    return code, out.getvalue(), err.getvalue()

for words in helps(VERBS):
    code, out, _ = answered(*words, "--help")
    assert code == 0 and "Usage: whisperfleet" in out, (words, out)
for words in (
    "train configs/demo.yaml optim.max_step=3",
    "train configs/demo.yaml --sweep grace=3",
    "train configs/demo.yaml data.validation=a.jsonl --sweep optim.max_step=grid(3)",
    "check configs/demo.yaml optim.max_step=3",
    "plan configs/demo.yaml optim.max_step=3",
    "evaluate builtin:base --manifest a.jsonl --context shrot",
    "data inspect a.jsonl min_s=3",
    "data prepare a.jsonl --out b min_s=3",
    "transcribe a.wav --model builtin:base --overwrite",
    "serve builtin:base prot=3",
    "demo optim.max_step=3",
    "train configs/demo.yaml data.train=nowhere.jsonl",
    "plan configs/demo.yaml --gpus foo",
    "transcribe a.wav --model builtin:base --language xx",
    "transcribe configs/demo.yaml --model builtin:large",
    "serve builtin:large",
    "evaluate builtin:large --manifest a.jsonl",
    "compare builtin:base builtin:large --manifest a.jsonl",
    "compare builtin:base --manifest a.jsonl",
    "export builtin:large b",
    "serve ./nowhere",
    "train configs/demo.yaml base=builtin:large",
    "export ~nobody/there b",
):
    code, out, err = answered(*words.split())
    assert (code, out) == (2, "") and err.startswith("whisperfleet: "), (words, code, out, err)
    print(err, end="")
"""


@pytest.mark.slow
def test_each_verb_s_help_and_a_mistake_waited_for_torch_transformers_and_ray() -> None:
    """From 2.4 to 6.3 s of CPU before anybody could read what was wrong."""
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 23


@pytest.mark.medium
def test_all_mistakes_of_a_config_are_reported_at_once() -> None:
    done = run("train", "configs/demo.yaml", "optim.max_step=3", "language=Itallian", "--dry-run")
    assert done.returncode == 2
    assert "unknown key 'optim.max_step' (did you mean 'optim.max_steps'?)" in done.stderr
    assert "language: 'Itallian' is not a known language (did you mean 'italian'?)" in done.stderr
