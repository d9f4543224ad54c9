"""Runs that are killed, interrupted, or cannot go on."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
import ray.train
import torch

from asr.audio.decode import decode
from asr.config import resolve
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.export import export
from asr.transcript import DecodingRequest
from tests.asr.disks import fill, small_disk
from tests.asr.models.ctc import tiny
from tests.manifests import write_beside
from tests.processes import MARK, left_over
from tests.train.overfitting import said_by_transformers
from tests.train.runs import STEPS, Finished, Runs, finish, planned
from train.checkpoints import data_log
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.events import Progress
from train.run import supervisor as module
from train.run.fit import fit
from train.tracking.history import NAME

PATIENCE_S = 300.0  # for a first checkpoint on a busy machine
RECORD = "checkpoints/checkpoint_manager_snapshot.json"
SCRIPT = (
    "import sys; from asr.config import resolve; from train.config import TrainConfig; from train.run.fit import fit\n"
    "fit(resolve(TrainConfig, None, sys.argv[1:]).value)"
)


def known_step(run: Path) -> int:
    """Return the step of the newest checkpoint that Ray knows of, from which a run must be able to go on, or 0."""
    record = run / RECORD
    return max(map(int, re.findall(r"step_(\d+)", record.read_text())), default=0) if record.is_file() else 0


def _wait(happens: Callable[[], bool], alive: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happens():
        assert alive()
        assert time.monotonic() < until
        time.sleep(0.02)


def workers() -> list[psutil.Process]:
    """The processes of all training workers that this test session has started."""
    found = psutil.process_iter(["cmdline"])  # those that end meanwhile, or have ended, have no command line
    ours = {one.pid for one in psutil.Process().children(recursive=True)}
    return [one for one in found if one.pid in ours and (one.info["cmdline"] or [])[:1] == ["ray::RayTrainWorker"]]


@dataclass(frozen=True)
class Ended:
    """How a command ended, what it had said, and what still ran of all that it had started."""

    returncode: int
    stdout: str
    stderr: str
    left: list[psutil.Process]
    newest: str | None
    """The checkpoint from which the run goes on."""


class Trouble:
    """One run that is ended by one thing after the other, and goes on each time; it has a small disk of its own."""

    def __init__(self, runs: Runs, place: Path) -> None:
        self.runs, self.place = runs, place
        self.folder = place / "trouble"

    @property
    def settings(self) -> list[str]:
        return [*self.runs.settings("trouble"), "run.checkpoint_every_steps=1", f"run.folder={self.place}"]

    def config(self, *settings: str) -> TrainConfig:
        return resolve(TrainConfig, None, [*self.settings, *settings]).value

    def command(self, words: list[str], ends: signal.Signals) -> Ended:
        """Have a process with a Ray of its own train up to its next checkpoint, and signal its whole group."""
        known = known_step(self.folder)
        mark = uuid.uuid4().hex
        ours = ("RAY_TRAIN_", "RAY_worker_niceness")  # as in the tests' own Ray, but for where that is
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name.startswith(ours)
        }
        process = subprocess.Popen(
            [sys.executable, *words, *self.settings],
            env=environment | {MARK: mark},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _wait(lambda: known_step(self.folder) > known, lambda: process.poll() is None)
            # The driver asks once a second what there is: one that has heard of no step yet says other words.
            _wait(lambda: '"step": 1,' in (self.folder / NAME).read_text(), lambda: process.poll() is None)
            time.sleep(0.5)  # it writes the history first, and then tells who shows it
            os.killpg(process.pid, ends)
        except AssertionError:  # it has ended by itself, or has come to nothing in all that time
            process.kill()
            pytest.fail("\n".join(process.communicate()))
        try:
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
        return Ended(process.returncode, stdout, stderr, left_over(mark), module.newest(RunFolder(str(self.folder))))


@pytest.fixture(scope="module")
def trouble(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """The run before anything has happened. Where no disk can be mounted it has a plain folder."""
    place = tmp_path_factory.mktemp("trouble")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(pytest.skip.Exception):
            stack.enter_context(small_disk(place, 32))
        yield Trouble(runs, place)


@pytest.fixture(scope="module")
def terminated(trouble: Trouble, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """First a scheduler ends it. That is the command; what it says is what a person reads."""
    empty = tmp_path_factory.mktemp("settings") / "empty.yaml"
    empty.write_text("")
    return trouble.command(["-m", "whisperfleet", "train", str(empty)], signal.SIGTERM)


@pytest.fixture(scope="module")
def full_disk(trouble: Trouble, terminated: Ended, ray_cluster: None) -> tuple[UserError, int] | None:
    """Then the disk is full: the error, and how often the run was tried. Afterwards there is room again."""
    if not trouble.place.is_mount():
        return None
    attempts: list[object] = []
    real = module._trainer
    known = known_step(trouble.folder)
    for half in (trouble.folder / "checkpoints").glob("step_*"):
        if int(half.name.removeprefix("step_")) > known:
            shutil.rmtree(half)  # of the terminated run: another in its place would find room
    size = sum(file.stat().st_size for file in (trouble.folder / "checkpoints" / f"step_{known:07}").iterdir())
    ballast = fill(trouble.place, leave=size // 2)  # no room for another checkpoint
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(module, "_trainer", lambda *args: attempts.append(args) or real(*args))
        fit(trouble.config("tracking.report_to=[]"))
    ballast.unlink()
    return caught.value, len(attempts)


@pytest.fixture(scope="module")
def killed(trouble: Trouble, full_disk: object, ray_cluster: None) -> tuple[Finished, str]:
    """Last its worker is killed, and it comes to its end: what it made, and what it said of it."""
    ended, known = False, known_step(trouble.folder)

    def kill() -> None:
        _wait(lambda: known_step(trouble.folder) > known, lambda: not ended)
        for worker in workers():
            worker.kill()

    said = io.StringIO()
    thread = Thread(target=kill)
    thread.start()
    try:
        with contextlib.redirect_stderr(said):
            done = finish(trouble.config("workers.max_failures=1"))
    finally:
        ended = True
        thread.join()
    return done, said.getvalue()


def same_weights(done: Finished, whole: Finished) -> None:
    assert done.progress[-1].loss == pytest.approx(whole.progress[-1].loss, abs=1e-5)
    assert done.adapter.keys() == whole.adapter.keys()
    for name, weight in whole.adapter.items():
        assert torch.allclose(done.adapter[name], weight, rtol=0, atol=1e-5), name


@pytest.mark.slow
@pytest.mark.ray
def test_a_schedulers_sigterm_ends_a_run_in_one_line(terminated: Ended) -> None:
    """It often reaches all processes at once, Ray's too. Ray's C++ has a handler that prints a stack of addresses."""
    assert terminated.returncode == 128 + signal.SIGTERM, terminated.stderr
    *steps, last = terminated.stderr.splitlines()
    assert re.fullmatch(
        rf"ended by SIGTERM at step \d+ of {STEPS}: the same command goes on from the last checkpoint, if there is one",
        last,
    ), terminated.stderr
    assert all(line.startswith("step ") for line in steps), terminated.stderr
    assert terminated.stdout == ""
    assert terminated.left == []
    assert terminated.newest is not None


@pytest.mark.long  # shorter: of the command in tests/e2e, of a session in tests/cluster/test_session.py
def test_ctrl_c_in_a_program_of_a_users_own_stops_everything_and_costs_nothing_but_time(
    whole: Finished, runs: Runs, tmp_path: Path
) -> None:
    """It reaches the whole process group."""
    trouble = Trouble(runs, tmp_path)
    interrupted = trouble.command(["-c", SCRIPT], signal.SIGINT)
    assert interrupted.returncode == -signal.SIGINT, interrupted.stderr
    assert interrupted.stderr.strip().endswith("KeyboardInterrupt")
    assert interrupted.left == []
    assert interrupted.newest is not None
    done = finish(trouble.config())
    assert done.progress[-1].resumed_at >= int(interrupted.newest.removeprefix("step_"))
    same_weights(done, whole)


@pytest.mark.slow
def test_a_full_disk_is_a_persons_matter_that_comes_out_of_a_worker_as_it_went_in_and_is_not_tried_again(
    trouble: Trouble, full_disk: tuple[UserError, int] | None
) -> None:
    """It was told as `worker 0 died`, and tried again in vain."""
    if full_disk is None:
        pytest.skip("a small disk cannot be mounted here")
    error, attempts = full_disk
    place = re.escape(f"{trouble.folder}/checkpoints")
    assert re.match(rf"{place}: no space left for a checkpoint of \d+\.\d MB, 0\.\d of 34 MB are free", error.message)
    assert error.hint == "free some space: the same command goes on from the last checkpoint"
    assert attempts == 1


@pytest.mark.slow
def test_a_run_that_was_terminated_without_room_and_killed_costs_nothing_but_time(
    whole: Finished, terminated: Ended, killed: tuple[Finished, str]
) -> None:
    """The promise of resuming: the same weights as if nothing had happened, dropout masks and all."""
    done, said = killed
    assert "worker 0 died (" in said
    assert terminated.newest is not None
    assert int(terminated.newest.removeprefix("step_")) < done.progress[-1].resumed_at < STEPS
    same_weights(done, whole)
    audio_s = (done.fitted.card.training["audio_s"], whole.fitted.card.training["audio_s"])
    assert audio_s[0] == pytest.approx(audio_s[1])
    load_model(str(done.fitted.artifact))


def test_who_died_of_what_is_said_in_one_line() -> None:
    failures = {1: RuntimeError("a traceback\n\nthe node is gone\n"), 0: RuntimeError("SIGKILL")}
    assert module._lost(ray.train.WorkerGroupError("...", failures)) == "worker 0, 1 died (RuntimeError: SIGKILL)"


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_persons_mistake_comes_out_of_a_worker_as_it_went_in_and_is_not_tried_again(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_beside(tmp_path / "gone.jsonl", [replace(clip, audio="/no/such.flac") for clip in runs.clips])
    attempts: list[object] = []
    real = module._trainer
    monkeypatch.setattr(module, "_trainer", lambda *args: attempts.append(args) or real(*args))
    with pytest.raises(UserError) as caught:
        fit(runs.config("gone", f"data.train={tmp_path / 'gone.jsonl'}", "data.max_quarantined_share=0"))
    assert "utterances could not be used, the last: missing_file: " in caught.value.message
    assert caught.value.hint == "mend the data, or raise data.max_quarantined_share"
    assert len(attempts) == 1


@pytest.mark.medium
@pytest.mark.parametrize(("checkpoints", "goes_on"), [("11", 1), ("112", 2), ("123456", 5)])
def test_failures_are_counted_since_the_newest_checkpoint(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, checkpoints: str, goes_on: int
) -> None:
    """One is forgiven. ``checkpoints`` are those that a run has before and after each attempt."""
    found = iter([name for before, after in pairwise(checkpoints) for name in (before, after)])
    attempts: list[object] = []

    def lose(*_: object) -> SimpleNamespace:
        attempts.append(None)
        return SimpleNamespace(fit=raising)

    def raising() -> None:
        raise ray.train.WorkerGroupError("lost", {0: RuntimeError("a node is gone")})

    monkeypatch.setattr(module, "_trainer", lose)
    monkeypatch.setattr(module, "newest", lambda run: next(found, None))
    config = runs.config("flaky", "workers.max_failures=1")
    with pytest.raises(ray.train.WorkerGroupError):
        module.train_to_end(RunFolder.of(config), SimpleNamespace(config=config))  # type: ignore[arg-type]
    assert len(attempts) == goes_on + 1


def met_once(runs: Runs, config: TrainConfig) -> None:
    """Each step was trained on what was planned for it, and each utterance met once an epoch."""
    lines = list(data_log.read(str(runs.folder / config.run.name / data_log.DATA_LOG)))
    assert [line.step for line in lines] == list(range(1, config.optim.max_steps + 1))
    assert [sorted(line.ids) for line in lines] == [sorted(ids) for ids in planned(config)]
    epochs = defaultdict(list)
    for line in lines:
        epochs[line.epoch] += line.ids
    assert len(epochs) >= 2
    assert sorted(epochs[0]) == sorted(clip.id for clip in runs.clips)


def killed_at(config: TrainConfig, step: int, chance: random.Random) -> list[Progress]:
    """Go on until a step, and kill one of the workers there."""
    seen: list[Progress] = []

    def on_progress(now: Progress) -> None:
        seen.append(now)
        if now.step >= step:
            chance.choice(workers()).send_signal(signal.SIGKILL)

    with pytest.raises(ray.train.WorkerGroupError):
        fit(config, on_progress)
    return seen


@pytest.mark.slow
def test_elastic_workers_killed_at_a_random_point_while_ray_wrote_its_record_and_then_one_meet_each_utterance_once(
    whole: Finished, runs: Runs
) -> None:
    """Three micro-batches a step, which two workers do not divide: what is left over is filled up with idle ones.

    One worker shares what two had left to do, and the learning rate of each step is that of a run that nobody killed.
    """
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # shown where the test fails
    chance = random.Random(seed)
    settings = ["run.data_log=true", "run.checkpoint_every_steps=1", "batching.micro_batches_per_step=3"]
    config = runs.config("random", *settings, "workers.max_failures=0")
    elastic = runs.config("random", *settings, "workers.max_failures=0", "workers.elastic={min: 1, max: 2}")
    before = killed_at(elastic, chance.randint(3, 6), chance)
    record = runs.folder / "random" / RECORD
    record.write_bytes(record.read_bytes()[:-30])  # as by a driver that dies while it is written
    done = finish(config)
    assert 1 <= done.progress[0].resumed_at < STEPS
    assert done.progress[-1].step == STEPS
    assert [one.loss for one in [*before, *done.progress] if abs(one.loss - math.log(51_864)) > 0.4] == []
    met_once(runs, config)
    learning_rates = {one.step: one.learning_rate for one in [*before, *done.progress]}
    assert learning_rates == {one.step: one.learning_rate for one in whole.progress}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_ctc_run_that_is_killed_goes_on_with_each_utterance_once_to_an_artifact_that_is_exported(
    runs: Runs, tmp_path: Path
) -> None:
    """Adapters and a new head in its artifact; what plain transformers hears of the export is what we hear."""
    base = tiny.write(tmp_path / "base", "w2v-bert-2.0")
    settings = ["run.data_log=true", "run.checkpoint_every_steps=1", "workers.max_failures=0", f"base={base}"]
    settings += ["ctc.vocabulary=transcripts", "ctc.language_model=none", "augment.spec.probability=0.5"]
    config = runs.config("ctc", *settings)
    before = killed_at(config, 4, random.Random(0))
    done = finish(config)
    assert 1 <= done.progress[0].resumed_at < STEPS
    met_once(runs, config)
    twice = {one.step: one.loss for one in before}
    again = {one.step: one.loss for one in done.progress if one.step in twice}
    assert again == pytest.approx({step: twice[step] for step in again})
    assert sum(name.startswith("base_model.model.lm_head.") for name in done.adapter) == 2
    model = load_model(str(done.fitted.artifact))
    export(str(done.fitted.artifact), tmp_path / "out", "transformers")
    sounds = [decode(str(clip.audio)) for clip in runs.clips[:4]]
    heard = [
        one.text for one in model.transcribe([DecodingRequest(model.features(sound)) for sound in sounds], "short")
    ]
    assert said_by_transformers(tmp_path / "out", sounds) == heard


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(3600)
def test_twenty_random_kills_and_restarts_as_2_1_2_meet_each_utterance_once_an_epoch(runs: Runs) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # shown where the test fails
    chance = random.Random(seed)
    settings = ["run.data_log=true", "run.checkpoint_every_steps=1", "workers.max_failures=0", "optim.max_steps=126"]
    settings.append("base=builtin:tiny.en")  # whose steps take longer than it takes to hear of them
    config, learning_rates = runs.config("twenty", *settings), {}
    for attempt in range(20):
        count = config.workers.model_copy(update={"count": 2 - attempt % 2})
        step = 6 * attempt + chance.randint(2, 6)  # the progress that says so comes a second or so later
        seen = killed_at(config.model_copy(update={"workers": count}), step, chance)
        learning_rates |= {one.step: one.learning_rate for one in seen}
    done = finish(config.model_copy(update={"workers": config.workers.model_copy(update={"count": 2})}))
    learning_rates |= {one.step: one.learning_rate for one in done.progress}
    met_once(runs, config)
    peak = config.optim.learning_rate
    planned_rates = {step: pytest.approx(peak * (127 - step) / 125) for step in range(2, 127)}
    assert learning_rates == {1: 0.0} | planned_rates
