from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.errors import UserError
from tests.train.sweep.test_trials import BASE
from train.sweep.record import RECORD, Report, SweepRecord
from train.sweep.space import resolve_sweep
from train.sweep.trials import make_trials


def record(folder: Path, *varied: str, base: tuple[str, ...] = ()) -> SweepRecord:
    words = [*BASE[:3], f"run.folder={folder}", "run.name=mine", *base]
    trials = make_trials(resolve_sweep(varied or ["lora.rank=grid(1, 2, 3)"]), None, words)
    return SweepRecord(str(folder / "mine"), trials, trials[0].config)


def test_a_record_goes_on_where_it_was(tmp_path: Path) -> None:
    first = record(tmp_path)
    for outcome, status in zip(first.outcomes, ("stopped", "running", "failed"), strict=True):
        outcome.status = status  # type: ignore[assignment]
        outcome.take(Report(2, 0.5, 0.1))
    first.write()
    again = record(tmp_path)
    assert [one.status for one in again.outcomes] == ["stopped", "waiting", "failed"]
    assert [one.open for one in again.outcomes] == [False, True, True]
    assert again.outcomes[0].reports == [Report(2, 0.5, 0.1)]
    assert len(json.loads((tmp_path / "mine" / RECORD).read_text())["trials"]) == 3


@pytest.mark.filterwarnings("ignore::asr.errors.RenamedWarning")
def test_a_sweep_over_a_key_that_was_renamed_goes_on_under_either_name(tmp_path: Path) -> None:
    record(tmp_path, "batching.max_clips=grid(2, 4)").write()
    path = tmp_path / "mine" / RECORD
    path.write_text(
        path.read_text().replace('"batching.max_clips"', '"plan.max_clips"')
    )  # as the version before wrote it
    for key in ("plan.max_clips", "batching.max_clips"):
        assert [one.settings for one in record(tmp_path, f"{key}=grid(2, 4)").outcomes] == [
            {"batching.max_clips": 2},
            {"batching.max_clips": 4},
        ]


def test_an_artifact_says_that_a_trial_is_finished_whatever_was_written(tmp_path: Path) -> None:
    first = record(tmp_path)
    first.outcomes[1].status = "finished"
    first.write()
    card = tmp_path / "mine" / "trials" / "002" / "artifact" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")
    assert [one.status for one in record(tmp_path).outcomes] == ["waiting", "waiting", "finished"]


def test_another_sweep_is_refused_but_more_trials_are_not(tmp_path: Path) -> None:
    varied = ["lora.rank=choice(1, 2, 3, 4, 5, 6)"]
    record(tmp_path, *varied, "trials=2")
    assert len(record(tmp_path, *varied, "trials=6").outcomes) > 2
    with pytest.raises(UserError, match="started with other settings: its space, or fewer trials"):
        record(tmp_path, *varied, "trials=1")
    with pytest.raises(UserError, match="other settings: precision"):
        record(tmp_path, *varied, "trials=6", base=("precision=bf16",))


def test_the_best_is_the_finished_trial_with_the_lowest_rate(tmp_path: Path) -> None:
    made = record(tmp_path)
    assert made.winner is None
    for outcome, rates in zip(made.outcomes, ((0.5, 0.3, 0.4), (0.2,), (0.6,)), strict=True):
        for step, rate in enumerate(rates, 1):
            outcome.take(Report(step, rate))
    made.outcomes[0].status = made.outcomes[2].status = "finished"
    made.outcomes[1].status = "stopped"
    assert made.winner is made.outcomes[0]
    assert made.outcomes[0].best == Report(2, 0.3)
    assert [one.name for one in made.ranked] == ["000", "002", "001"]


def test_steps_that_are_made_again_are_reported_again(tmp_path: Path) -> None:
    outcome = record(tmp_path).outcomes[0]
    assert all(outcome.take(Report(step, 0.5)) for step in (2, 4, 6))
    assert not outcome.take(Report(4, 0.4))
    assert outcome.reports == [Report(2, 0.5), Report(4, 0.4)]
