"""Trackers for a run's figures: TensorBoard, MLflow, Weights & Biases; written by the driver alone."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Literal, Protocol

from asr.config import Section
from asr.errors import UserError
from asr.io import storage
from asr.parsed import JsonObject
from train.events import Scored

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Name = Literal["tensorboard", "mlflow", "wandb"]

_PACKAGES: dict[Name, str] = {"mlflow": "mlflow", "wandb": "wandb"}
_FOLDER = "tensorboard"
_EVENT_FILES = "events.out.tfevents.*"
_MLFLOW_RUN = "mlflow_run_id"
_STEP_FIGURES = (
    "loss",
    "learning_rate",
    "grad_norm",
    "blank_share",
    "audio_per_s",
    "tokens_per_s",
    "wait_share",
    "padding_share",
    "memory_gib",
)


class TrackingConfig(Section):
    """Trackers that receive a run's figures, beside ``history.jsonl`` in its folder."""

    report_to: tuple[Name, ...] = ("tensorboard",)
    """tensorboard writes event files into the run's folder; mlflow and wandb are set up by their own environment
    variables (MLFLOW_TRACKING_URI, WANDB_API_KEY ...)."""

    def require(self) -> None:
        """Raise UserError where a package is missing, before any GPU is busy."""
        for name in self.report_to:
            if name in _PACKAGES and importlib.util.find_spec(name) is None:
                raise UserError(
                    f"tracking.report_to names {name}, which is not installed", f"pip install {_PACKAGES[name]}"
                )


class Tracker(Protocol):
    """A destination of a run's figures."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures of a step; those of evaluations may come after those of later steps."""

    def cut(self, last_step: int) -> None:
        """Forget what lies beyond the step from which the run goes on."""

    def close(self) -> None:
        """Write what is not yet written."""


def trackers(config: TrackingConfig, run_name: str, uri: str, settings: JsonObject) -> list[Tracker]:
    """Return the trackers of a run in the folder ``uri``; ``settings`` is its resolved configuration."""
    made: list[Tracker] = []
    for name in config.report_to:
        match name:
            case "tensorboard":
                made.append(TensorBoard(storage.join(uri, _FOLDER)))
            case "mlflow":
                made.append(MLflow(run_name, storage.join(uri, _MLFLOW_RUN), settings))
            case "wandb":
                made.append(WandB(run_name, uri, settings))
    return made


def step_figures(row: JsonObject) -> dict[str, float]:
    """Return what of a step's row in the history is worth a chart."""
    return {f"train/{name}": float(row[name]) for name in _STEP_FIGURES if name in row}


def scored_figures(scored: Scored) -> dict[str, float]:
    """Return what of an evaluation is worth a chart: rates are shares."""
    return {f"{scored.corpus}/{name}": float(scored.summary[name]["rate"]) for name in ("wer", "wer_ortho", "cer")}


class TensorBoard:
    """Event files. Where a run goes on, readers are told to forget the steps that are made again."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._folder = mkdtemp(prefix="whisperfleet-") if storage.is_remote(uri) else uri
        self._writer = self._open(None)

    def _open(self, purge_step: int | None) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        # Readers take the files in the order of their names: a whole second, then host, process and number as text.
        while any(int(path.name.split(".")[3]) == int(time.time()) for path in Path(self._folder).glob(_EVENT_FILES)):
            time.sleep(0.05)
        return SummaryWriter(self._folder, purge_step=purge_step)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def cut(self, last_step: int) -> None:
        self._writer.close()
        self._writer = self._open(last_step + 1)

    def close(self) -> None:
        self._writer.close()
        if storage.is_remote(self._uri):
            for path in Path(self._folder).iterdir():
                storage.write_bytes(storage.join(self._uri, path.name), path.read_bytes())


class MLflow:
    """A run at MLflow's tracking server. Its id is kept in the run's folder, so that it goes on where it stopped."""

    def __init__(self, run_name: str, id_file: str, settings: JsonObject) -> None:
        import mlflow  # type: ignore[import-not-found,unused-ignore]

        known = storage.read_text(id_file) if storage.exists(id_file) else None
        self._mlflow = mlflow
        run = mlflow.start_run(run_id=known, run_name=None if known else run_name)
        if not known:
            storage.write_text(id_file, run.info.run_id)
            mlflow.log_dict(settings, "config.json")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def cut(self, last_step: int) -> None:
        """Nothing can be taken back from MLflow: a step that is made again is there twice, with the same figures."""

    def close(self) -> None:
        self._mlflow.end_run()


class WandB:
    """A run at Weights & Biases, named by its folder, so that it goes on where it stopped."""

    def __init__(self, run_name: str, uri: str, settings: JsonObject) -> None:
        import hashlib

        import wandb

        folder = mkdtemp(prefix="whisperfleet-") if storage.is_remote(uri) else uri
        name = f"{run_name}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
        self._run = wandb.init(
            project="whisperfleet", id=name, name=run_name, resume="allow", dir=folder, config=settings
        )
        # Figures of evaluations may come late: a step of our own, since those of W&B may only grow.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "step": step})

    def cut(self, last_step: int) -> None:
        """Nothing can be taken back from W&B: a step that is made again is there twice, with the same figures."""

    def close(self) -> None:
        self._run.finish()
