"""Runs a sweep: trials side by side on Ray Tune, the worse ones stopped early, the best artifact kept."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory

import ray
import ray.tune

from asr.errors import UserError
from asr.parsed import JsonObject
from cluster.resources import DATA_TASK_CPUS, WAITING_ACTORS
from cluster.scaling import require_workers
from cluster.session import ray_session
from train import console
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.corpus.static import StaticCorpus
from train.run.fit import TrainingData, require, training_data
from train.sweep import results
from train.sweep.entry import Bench, enter
from train.sweep.halving import Halving
from train.sweep.record import Report, SweepRecord, TrialOutcome
from train.sweep.space import SweepConfig
from train.sweep.trials import Trial

_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # so that Ctrl-C ends the sweep as it ends a run
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # prints a banner, however quiet it is told to be
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",  # of a trial that was stopped: its workers' cores are wanted
}


def sweep(
    config: TrainConfig, settings: SweepConfig, trials: Sequence[Trial], address: str | None = None
) -> SweepRecord:
    """Run the trials that are not over yet, and return how all of them did; ``<sweep>/best`` is the best artifact.

    ``config`` is the configuration that they vary; its ``run`` names the sweep's folder. A sweep that was killed goes
    on: finished and stopped trials stay as they are, others go on from their last checkpoints. Raises UserError where
    the folder holds another sweep, the data cannot be used, the cluster is too small, or no trial came to its end.
    """
    uri = RunFolder.of(config).uri
    record = SweepRecord(uri, trials, config)
    waiting = [trial for trial, outcome in zip(trials, record.outcomes, strict=True) if outcome.open]
    if waiting:
        console.say(f"{len(waiting)} of {len(trials)} trials to run, in {uri}")
        for trial in waiting:
            require(trial.config)
        data = _read(waiting)
        with ray_session(address):
            for trial in waiting:
                require_workers(trial.config.workers)
            at_once = room_for(settings.concurrent, waiting, ray.cluster_resources())
            console.say(f"{at_once} at a time")
            _run(Bench(tuple(trials), _shared(data)), waiting, settings, record, at_once)
    results.write(record)
    if record.winner is None:
        errors = "; ".join(f"{one.name}: {one.error}" for one in record.outcomes if one.error)
        raise UserError(f"{uri}: no trial of this sweep came to its end: {errors}", "the same command tries again")
    results.link_best(record)
    return record


def room_for(asked: int | None, trials: Sequence[Trial], present: Mapping[str, float]) -> int:
    """Return how many trials may run at a time in a cluster with so much of each resource.

    A trial needs its workers, its data tasks and, where it is scored beside them, a scorer. Raises UserError where
    more were asked for than fit: their workers would hold all CPUs, and their data wait for one for ever.
    """
    cpus = gpus = 0.0
    for trial in trials:
        workers = trial.config.workers
        scorers = int(trial.config.evaluation.mode == "async")
        data = workers.most * workers.data_tasks_each * DATA_TASK_CPUS
        cpus = max(cpus, (workers.most + scorers) * workers.threads + data)
        gpus = max(gpus, float((workers.most + scorers) * workers.gpu))
    has = {kind: present.get(kind, 0.0) for kind in ("CPU", "GPU")}
    fits = min(int(has["CPU"] // cpus), int(has["GPU"] // gpus) if gpus else len(trials))
    if asked is not None and asked > max(fits, 1):
        raise UserError(
            f"concurrent={asked}: a trial needs {cpus:g} CPUs and {gpus:g} GPUs, the cluster has {has['CPU']:g} "
            f"and {has['GPU']:g}",
            f"use concurrent={max(fits, 1)}, or lower workers.cpus_each",
        )
    # A local cluster promises more CPUs than there are.
    spare = min(int((has["CPU"] - WAITING_ACTORS) // cpus), fits)
    return min(asked or max(spare, 1), len(trials))


def _read(trials: Sequence[Trial]) -> dict[str, TrainingData]:
    """Return what the trials are trained on: each source read, checked and measured once for all of them."""
    data: dict[str, TrainingData] = {}
    for trial in trials:
        if trial.data_key not in data:
            data[trial.data_key] = training_data(trial.config)
    return data


def _shared(data: dict[str, TrainingData]) -> dict[str, TrainingData]:
    """Return the same in the object store; a stream is nothing yet, and each trial has a reader of its own."""
    return {
        key: replace(read, corpus=read.corpus.stored()) if isinstance(read.corpus, StaticCorpus) else read
        for key, read in data.items()
    }


def _run(bench: Bench, waiting: Sequence[Trial], settings: SweepConfig, record: SweepRecord, at_once: int) -> None:
    teller = Watcher(bench.trials, record)
    scheduler = None
    if settings.stop_early:
        every = min(trial.config.evaluation.every_steps or trial.config.run.checkpoint_every_steps for trial in waiting)
        last_steps = [trial.config.optim.max_steps for trial in bench.trials]
        scheduler = Halving(last_steps, settings.grace_steps or every, settings.reduction, teller.stopped)
        for number, outcome in enumerate(record.outcomes):
            scheduler.remember(number, outcome.reports)
    here = ray.tune.PlacementGroupFactory([{_this_node(): 0.001}])  # its workers ask for what they need themselves
    run = ray.tune.with_resources(ray.tune.with_parameters(enter, bench=bench), here)
    with _quiet(), TemporaryDirectory(prefix="whisperfleet-") as scratch:
        ray.tune.Tuner(
            run,
            param_space={"trial": ray.tune.grid_search([trial.number for trial in waiting])},
            tune_config=ray.tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=at_once),
            run_config=ray.tune.RunConfig(
                name="sweep", storage_path=scratch, verbose=0, callbacks=[teller], stop=Halt(teller)
            ),
        ).fit()
    if teller.mistake is not None:
        raise teller.mistake


class Watcher(ray.tune.Callback):
    """Records and prints what trials report.

    ``mistake`` is why that could not be written any more: raised in here, it would reach a person as Tune's traceback.
    """

    mistake: UserError | None = None

    def __init__(self, trials: Sequence[Trial], record: SweepRecord) -> None:
        super().__init__()
        self._trials, self._record = trials, record

    def on_trial_start(
        self, iteration: int, trials: list[ray.tune.experiment.Trial], trial: ray.tune.experiment.Trial, **info: object
    ) -> None:
        number = int(trial.config["trial"])
        self._change(number, status="running", error="")
        console.say(f"{self._trials[number].label}: started")

    def on_trial_result(
        self,
        iteration: int,
        trials: list[ray.tune.experiment.Trial],
        trial: ray.tune.experiment.Trial,
        result: JsonObject,
        **info: object,
    ) -> None:
        number = int(result["trial"])
        trial_, outcome = self._trials[number], self._record.outcomes[number]
        report = Report(int(result["step"]), float(result["wer"]), float(result["device_hours"]))
        new = bool(report.step) and outcome.take(report)
        if result["over"]:
            self._change(number, status=result["over"], error=result["error"])
            console.say(f"{trial_.label}: {result['over']}{': ' if result['error'] else ''}{result['error']}")
            return
        self._write()
        if new:
            console.say(f"{trial_.label}: step {report.step}, WER {report.wer:.1%}")
        if outcome.status == "stopped":
            console.say(f"{trial_.label}: stopped early at step {report.step}, others do better there")

    def on_trial_error(
        self, iteration: int, trials: list[ray.tune.experiment.Trial], trial: ray.tune.experiment.Trial, **info: object
    ) -> None:
        number = int(trial.config["trial"])
        self._change(number, status="failed", error="its process died")
        console.say(f"{self._trials[number].label}: its process died")

    def stopped(self, number: int) -> None:
        """Take note of a trial that is stopped early."""
        self._record.outcomes[number].status = "stopped"

    def _change(self, number: int, **changes: object) -> None:
        outcome: TrialOutcome = self._record.outcomes[number]
        for name, value in changes.items():
            setattr(outcome, name, value)
        self._write()

    def _write(self) -> None:
        try:
            self._record.write()
        except UserError as error:
            self.mistake = error


class Halt(ray.tune.Stopper):
    """Ends a sweep whose record cannot be written: all its trials write to the same folder."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __call__(self, trial_id: str, result: JsonObject) -> bool:
        """Leave each trial alone."""
        return False

    def stop_all(self) -> bool:
        """Return whether the sweep is to end."""
        return self._watcher.mistake is not None


def _this_node() -> str:
    """Return the resource that only the node of this process has: a trial belongs where the sweep was started."""
    mine = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == mine)
    return f"node:{address}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave it to us to say how the sweep does."""
    before = dict(os.environ)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_SETTINGS)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in _SETTINGS:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
