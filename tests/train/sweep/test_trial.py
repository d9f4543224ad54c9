"""What a trial tells Ray Tune; whole trials are in test_sweep."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune

from asr.errors import UserError
from tests.train.evaluation.test_schedule import scored
from tests.train.sweep.test_trials import BASE
from train.sweep import trial as module
from train.sweep.entry import Bench
from train.sweep.space import resolve_sweep
from train.sweep.trial import ERROR, run_trial
from train.sweep.trials import make_trials


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(ray.tune, "report", reports.append)
    monkeypatch.setattr(module, "training_data", lambda config, read: read)
    return reports


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    trials = make_trials(resolve_sweep(["lora.rank=grid(1, 2)"]), None, [*BASE[:3], f"run.folder={tmp_path}"])
    return Bench(tuple(trials), {trials[0].data_key: "the data"})  # type: ignore[dict-item]


def test_evaluations_are_reported_as_they_come(
    told: list[dict[str, Any]], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(config: Any, on_progress: Any, on_scored: Any, data: Any) -> Any:
        assert (config.lora.rank, data) == (2, "the data")
        on_progress(SimpleNamespace(seconds=3600))
        on_scored(scored(2, 0.5))
        on_scored(scored(4, 0.25))
        return SimpleNamespace(card=SimpleNamespace(training={"cost": {"device_hours": 2.0}}))

    monkeypatch.setattr(module, "fit", fit)
    run_trial({"trial": 1}, bench)
    assert [(one["trial"], one["step"], one["wer"], one["over"]) for one in told] == [
        (1, 2, 0.5, ""),
        (1, 4, 0.25, ""),
        (1, 4, 0.25, "finished"),
    ]
    assert [one["device_hours"] for one in told] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("step 3: the loss is nan", "less"), "step 3: the loss is nan (less)"), (OSError("x"), "OSError: x")],
)
def test_what_goes_wrong_is_told_and_written_down(
    error: Exception, said: str, told: list[dict[str, Any]], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(module, "fit", fit)
    run_trial({"trial": 0}, bench)
    (report,) = told
    assert (report["over"], report["error"]) == ("failed", said)
    assert "Traceback" in Path(bench.trials[0].run.file(ERROR)).read_text()
