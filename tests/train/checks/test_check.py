from __future__ import annotations

from pathlib import Path

import pytest

from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.train.checks.doctored import subject, tiny_checkpoint
from train.checks import check as check_module
from train.checks.check import NODE_STEPS, STEPS, CheckStep, check
from train.checks.subject import CheckOutcome, Subject


@pytest.mark.usefixtures("ray_cluster")
def test_a_good_configuration_passes_every_step_on_a_real_base(tmp_path: Path, english_clips: list[Utterance]) -> None:
    plain = [clip for clip in english_clips if not set(clip.text) & set("*:#()")]  # signs that decoding suppresses
    write_beside(tmp_path / "validation.jsonl", plain[16:])
    settings = [f"data.validation={tmp_path / 'validation.jsonl'}", "augment.gain.probability=0.5"]
    config = subject(tmp_path, "builtin:tiny.en", plain[:16], *settings).config
    started: list[tuple[int, str]] = []
    results = list(check(config, on_start=lambda number, name: started.append((number, name))))
    assert {result.name: result.outcome.detail for result in results if result.outcome.state != "ok"} == {}
    assert started == [(number, step.name) for number, step in enumerate(STEPS, start=1)]


@pytest.mark.usefixtures("ray_cluster")
def test_every_step_that_can_run_does_when_others_fail(tmp_path: Path, english_clips: list[Utterance]) -> None:
    """The manifest is gone, and the cluster has no GPU: what needs neither is still looked at."""
    config = subject(tmp_path, tiny_checkpoint(tmp_path / "base"), english_clips[:2], "workers.gpu=true").config
    (tmp_path / "train.jsonl").unlink()
    states = {result.name: result.outcome.state for result in check(config)}
    assert {name for name, state in states.items() if state == "failed"} == {"data", "cluster"}
    assert {name for name, state in states.items() if state == "ok"} == {"base", "machine", "checkpoint folder"}
    outcomes = {result.name: result.outcome for result in check(config)}
    assert outcomes["label text"].detail == "it needs: labels"
    assert "train.jsonl" in outcomes["data"].detail


def test_what_a_person_must_mend_is_an_outcome_and_a_bug_is_not(
    tmp_path: Path, english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(subject: Subject) -> CheckOutcome:
        raise ZeroDivisionError

    monkeypatch.setattr(check_module, "STEPS", (CheckStep("bug", bug),))
    with pytest.raises(ZeroDivisionError):
        list(check(subject(tmp_path, "builtin:tiny.en", english_clips[:1]).config))


def test_steps_are_named_before_they_are_needed() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    for number, step in enumerate(STEPS):
        assert set(step.needs) <= set(names[:number])


def test_steps_on_nodes_are_named_before_they_are_needed() -> None:
    names = [step.name for step in NODE_STEPS]
    assert len({*names, *(step.name for step in STEPS)}) == len(names) + len(STEPS)
    for number, step in enumerate(NODE_STEPS):
        assert set(step.needs) <= set(names[:number])
