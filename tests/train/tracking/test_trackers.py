from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from asr.errors import UserError
from asr.io import storage, transfer
from tests.train.evaluation.test_schedule import scored
from train.tracking.trackers import TensorBoard, Tracker, TrackingConfig, scored_figures, step_figures, trackers


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard itself would show."""
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]


@pytest.mark.medium
def test_tensorboard_shows_one_curve_of_a_run_that_went_on(tmp_path: Path) -> None:
    (first,) = trackers(TrackingConfig(), "run", str(tmp_path), {})
    for step in (1, 2, 3, 4):
        first.log(step, {"train/loss": float(step)})
    first.log(2, {"validation/wer": 0.5})
    first.close()
    second = TensorBoard(str(tmp_path / "tensorboard"))
    second.cut(2)
    for step in (3, 4, 5):
        second.log(step, {"train/loss": 10.0 * step})
    second.close()
    assert curve(tmp_path / "tensorboard", "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]
    assert curve(tmp_path / "tensorboard", "validation/wer") == [(2, 0.5)]


@pytest.mark.medium
def test_steps_made_again_within_a_second_were_shown_before_those_they_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenth file of a process has a name that comes before that of the ninth, if both are of one second."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(8))  # so few files made
    progress = TensorBoard(str(tmp_path))
    for last_step in range(3):
        progress.log(last_step + 1, {"train/loss": 1.0})
        progress.log(last_step + 2, {"train/loss": 0.0})
        progress.cut(last_step + 1)
    progress.close()
    assert len({path.name.split(".")[-1] for path in tmp_path.iterdir()} & {"9", "10"}) == 2, "not both names are there"
    assert curve(tmp_path, "train/loss") == [(step, 1.0) for step in range(1, 4)]


def test_event_files_of_a_run_at_an_address_arrive_there(s3: str, tmp_path: Path) -> None:
    place = storage.join(s3, tmp_path.name)
    (tracker,) = trackers(TrackingConfig(), "run", place, {})
    tracker.log(1, {"train/loss": 1.5})
    tracker.close()
    transfer.download(storage.join(place, "tensorboard"), tmp_path / "copy")
    assert curve(tmp_path / "copy", "train/loss") == [(1, 1.5)]


def test_all_that_the_issue_asks_for_is_charted() -> None:
    row = {"step": 3, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 2.0, "audio_per_s": 5.0, "wait_share": 0.01}
    figures = step_figures(row | {"padding_share": 0.1, "memory_gib": 1.5, "tokens_per_s": 20.0, "seconds": 9.0})
    assert figures == {
        "train/loss": 1.0,
        "train/learning_rate": 0.1,
        "train/grad_norm": 2.0,
        "train/audio_per_s": 5.0,
        "train/tokens_per_s": 20.0,
        "train/wait_share": 0.01,
        "train/padding_share": 0.1,
        "train/memory_gib": 1.5,
    }
    rates = scored_figures(scored(3, 0.25, "retention"))
    assert rates == {"retention/wer": 0.25, "retention/wer_ortho": 0.25, "retention/cer": 0.25}


def test_a_package_that_is_missing_is_a_persons_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    TrackingConfig().require()
    with pytest.raises(UserError, match="report_to names mlflow, which is not installed") as caught:
        TrackingConfig(report_to=("tensorboard", "mlflow")).require()
    assert caught.value.hint == "pip install mlflow"


class FakeMLflow(SimpleNamespace):
    """Takes what MLflow's client takes, and refuses to log where no run is open."""

    def __init__(self) -> None:
        super().__init__(started=[], logged=[], open=False)

    def start_run(self, run_id: str | None, run_name: str | None) -> Any:
        assert not self.open
        assert (run_id is None) != (run_name is None)  # an id goes on with a run, a name begins one
        self.started.append(run_id or run_name)
        self.open = True
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "id-1"))

    def log_dict(self, settings: dict[str, Any], name: str) -> None:
        assert self.open
        self.logged.append((name, settings))

    def log_metrics(self, figures: dict[str, float], step: int) -> None:
        assert self.open
        self.logged.append((step, figures))

    def end_run(self) -> None:
        self.open = False


def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for step in (1, 2):
        (tracker,) = trackers(TrackingConfig(report_to=("mlflow",)), "dhivehi", str(tmp_path), {"seed": 0})
        tracker.log(step, {"train/loss": 1.0})
        tracker.close()
    assert fake.started == ["dhivehi", "id-1"]
    assert fake.logged == [("config.json", {"seed": 0}), (1, {"train/loss": 1.0}), (2, {"train/loss": 1.0})]


@pytest.mark.slow
def test_wandb_takes_figures_of_earlier_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker: Tracker
    (tracker,) = trackers(TrackingConfig(report_to=("wandb",)), "dhivehi", str(tmp_path), {"seed": 0})
    tracker.log(3, {"train/loss": 1.0})
    tracker.log(2, {"validation/wer": 0.5})
    tracker.close()
    (binary,) = tmp_path.rglob("*.wandb")
    until = time.monotonic() + 60  # a process of W&B's own writes it, on a busy machine later
    while b"validation/wer" not in binary.read_bytes():
        assert time.monotonic() < until, binary.read_bytes()
        time.sleep(0.1)
