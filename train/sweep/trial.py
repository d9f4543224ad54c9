"""Runs one trial in its own process: a training run like any other, which reports its scores to Ray Tune."""

from __future__ import annotations

import traceback
from contextlib import suppress

import ray.tune

from asr.errors import UserError
from asr.io import storage
from asr.parsed import JsonObject
from train.events import Progress, Scored
from train.run.fit import fit, training_data
from train.sweep.entry import Bench
from train.sweep.trials import Trial

ERROR = "error.txt"  # in the folder of a run that failed


def run_trial(drawn: JsonObject, bench: Bench) -> None:
    """Run one trial to its end. What goes wrong is told to Tune and written down; the sweep goes on."""
    trial = bench.trials[int(drawn["trial"])]
    teller = _Teller(trial)
    try:
        data = training_data(trial.config, bench.data[trial.data_key])
        fitted = fit(trial.config, teller.on_progress, on_scored=teller.on_scored, data=data)
    except Exception as error:
        with suppress(UserError):  # where nothing can be written, that may be the very error
            storage.write_text(trial.run.file(ERROR), traceback.format_exc())
        # A person's mistake says all; of a bug the last line, and the rest is in the file.
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {str(error).strip()}"
        teller.tell(over="failed", error=said.splitlines()[-1])
    else:
        hours = fitted.card.training.get("cost", {}).get("device_hours", teller.hours)
        teller.tell(over="finished", device_hours=hours)


class _Teller:
    """Tells Ray Tune of each evaluation: how well the trial does at which step, and what it has taken by then."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._last = {"step": 0, "wer": 1.0}
        self.hours = 0.0

    def on_progress(self, now: Progress) -> None:
        self.hours = now.seconds * self._trial.config.workers.most / 3600

    def on_scored(self, scored: Scored) -> None:
        if scored.corpus == "validation":
            self._last = {"step": scored.step, "wer": scored.wer}
            self.tell()

    def tell(self, over: str = "", error: str = "", device_hours: float | None = None) -> None:
        hours = self.hours if device_hours is None else device_hours
        more = {"over": over, "error": error, "device_hours": hours}
        ray.tune.report({"trial": self._trial.number, **self._last, **more})
