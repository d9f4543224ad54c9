"""Record of a sweep's results so far, in ``sweep.json`` of its folder: from this it goes on where it was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from asr.config import current_name, current_names
from asr.errors import UserError
from asr.io import storage
from asr.models.artifact import CARD
from asr.parsed import JsonObject
from train.config import TrainConfig
from train.sweep.trials import Trial

RECORD = "sweep.json"
Status = Literal["waiting", "running", "finished", "stopped", "failed"]
_FREE = {"run", "workers", "tracking", "data", "evaluation"}  # as for a single run, whose own record says more


@dataclass(frozen=True)
class Report:
    """An evaluation of a trial; ``device_hours`` are those that it had taken by then, of GPUs or of CPU cores."""

    step: int
    wer: float
    device_hours: float = 0.0


@dataclass
class TrialOutcome:
    """Outcome of a trial: its evaluations in order, and the error of one that failed."""

    name: str
    settings: JsonObject
    status: Status = "waiting"
    reports: list[Report] = field(default_factory=list)
    error: str = ""

    @property
    def best(self) -> Report | None:
        """The evaluation with the lowest word error rate: that of the weights that are kept."""
        return min(self.reports, key=lambda report: (report.wer, report.step), default=None)

    @property
    def open(self) -> bool:
        """Return whether there is anything left to run."""
        return self.status not in ("finished", "stopped")

    @property
    def device_hours(self) -> float:
        """The device hours that the trial had taken by its last evaluation."""
        return max((report.device_hours for report in self.reports), default=0.0)

    def take(self, report: Report) -> bool:
        """Add an evaluation; what was reported of later steps was lost with its weights. Return whether it is new."""
        new = report.step not in {one.step for one in self.reports}
        self.reports = [one for one in self.reports if one.step < report.step] + [report]
        return new


class SweepRecord:
    """The outcomes of a sweep's trials, written down whenever one of them changes."""

    def __init__(self, uri: str, trials: Sequence[Trial], base: TrainConfig) -> None:
        """Go on with what is written at ``uri``, or raise UserError where that was another sweep."""
        self.uri = uri
        self._settings = base.model_dump(mode="json", exclude=_FREE)
        self.outcomes = [TrialOutcome(trial.name, trial.settings) for trial in trials]
        if storage.exists(self._file):
            self._go_on(json.loads(storage.read_text(self._file)))
        for trial, outcome in zip(trials, self.outcomes, strict=True):
            if storage.exists(trial.run.file("artifact", CARD)):
                outcome.status = "finished"  # it may have been the last that happened before the sweep was killed
            elif outcome.status in ("running", "finished"):
                outcome.status = "waiting"
        self.write()

    @property
    def _file(self) -> str:
        return storage.join(self.uri, RECORD)

    @property
    def ranked(self) -> list[TrialOutcome]:
        """The outcomes, the best first: finished trials by word error rate, then the others by theirs."""
        return sorted(
            self.outcomes,
            key=lambda one: (one.status != "finished", one.best.wer if one.best else float("inf"), one.name),
        )

    @property
    def winner(self) -> TrialOutcome | None:
        """The finished trial with the lowest word error rate."""
        first = self.ranked[0]
        return first if first.status == "finished" and first.best else None

    def write(self) -> None:
        """Write everything down, whole or not at all."""
        trials = [asdict(outcome) for outcome in self.outcomes]
        storage.write_text(self._file, json.dumps({"settings": self._settings, "trials": trials}, indent=1))

    def _go_on(self, earlier: JsonObject) -> None:
        known = [
            TrialOutcome(
                **{
                    **row,
                    "settings": _current(row["settings"]),
                    "reports": [Report(**report) for report in row["reports"]],
                }
            )
            for row in earlier["trials"]
        ]
        before, _ = current_names(TrainConfig, earlier["settings"])
        changed = sorted(key for key in self._settings if self._settings[key] != before.get(key))
        begins = [(one.name, one.settings) for one in self.outcomes[: len(known)]]
        if begins != [(one.name, one.settings) for one in known]:
            changed.append("its space, or fewer trials")
        if changed:
            raise UserError(
                f"{self.uri}: this sweep was started with other settings: {', '.join(changed)}",
                "choose another run.name, or delete the folder to sweep anew",
            )
        self.outcomes[: len(known)] = known


def _current(settings: JsonObject) -> JsonObject:
    """Return dotted keys and values of an earlier version under the names that they have now."""
    found = [current_name(TrainConfig, key, value) for key, value in settings.items()]
    return {key: value for key, value, _ in found}
