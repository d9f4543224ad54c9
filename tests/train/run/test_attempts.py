"""Runs that are killed, interrupted, or cannot go on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
import ray.train
import torch

from asr.artifact import load_model
from asr.errors import UserError
from tests.asr.disks import fill, small_disk
from tests.manifests import write_beside
from tests.processes import MARK, left_over
from tests.train.runs import STEPS, Finished, Runs, finish, planned
from train.fit import fit
from train.run import attempts as module
from train.run import ledger
from train.run.folder import RunFolder
from train.watching.progress import Progress

PATIENCE_S = 180.0  # for a first checkpoint on a busy machine


def wait_for_checkpoint(run: Path, alive: Callable[[], bool]) -> None:
    """Return when Ray knows of a checkpoint: from there on a run must be able to go on."""
    record = run / "checkpoints" / "checkpoint_manager_snapshot.json"
    until = time.monotonic() + PATIENCE_S
    while not (record.is_file() and "step_0000002" in record.read_text()):
        assert alive()
        assert time.monotonic() < until
        time.sleep(0.02)


def workers() -> list[psutil.Process]:
    """The processes of all training workers that this test session has started."""
    found = psutil.process_iter(["cmdline"])  # those that end meanwhile, or have ended, have no command line
    ours = {one.pid for one in psutil.Process().children(recursive=True)}
    return [one for one in found if one.pid in ours and (one.info["cmdline"] or [])[:1] == ["ray::RayTrainWorker"]]


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(
    whole: Finished, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    """The promise of resuming: the same weights as if nothing had happened, dropout masks and all."""
    ended = False

    def kill() -> None:
        wait_for_checkpoint(runs.folder / "killed", lambda: not ended)
        for worker in workers():
            worker.kill()

    thread = Thread(target=kill)
    thread.start()
    try:
        killed = finish(runs.config("killed", "workers.max_failures=1"))
    finally:
        ended = True
        thread.join()
    assert "worker 0 died (" in capsys.readouterr().err
    assert 2 <= killed.progress[-1].resumed_at < STEPS
    assert killed.progress[-1].loss == pytest.approx(whole.progress[-1].loss, abs=1e-5)
    assert killed.adapter.keys() == whole.adapter.keys()
    for name, weight in whole.adapter.items():
        assert torch.allclose(killed.adapter[name], weight, rtol=0, atol=1e-5), name
    audio_s = (killed.fitted.card.training["audio_s"], whole.fitted.card.training["audio_s"])
    assert audio_s[0] == pytest.approx(audio_s[1])


@pytest.mark.slow
def test_ctrl_c_stops_everything_and_two_workers_go_on(whole: Finished, runs: Runs) -> None:
    """A terminal's Ctrl-C reaches the whole process group. Two workers then share what one had left to do."""
    mark = uuid.uuid4().hex
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    script = (
        "import sys; from asr.config import resolve; from train.config import TrainConfig; from train.fit import fit\n"
        "fit(resolve(TrainConfig, None, sys.argv[1:]).value)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *runs.settings("stopped")],
        env=environment | {MARK: mark},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_checkpoint(runs.folder / "stopped", lambda: process.poll() is None)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, stderr
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert left_over(mark) == []
    assert not (runs.folder / "stopped" / "artifact").exists()

    two = finish(runs.config("stopped", "workers.count=2"))
    assert 2 <= two.progress[-1].resumed_at < STEPS
    assert two.progress[-1].step == two.fitted.card.training["step"] == STEPS
    audio_s = two.fitted.card.training["audio_s"]  # nothing was heard twice, nothing left out
    assert audio_s == pytest.approx(whole.fitted.card.training["audio_s"])
    assert two.progress[-1].loss == pytest.approx(whole.progress[-1].loss, rel=0.1)  # but for other dropout masks
    load_model(str(two.fitted.artifact))


@pytest.mark.slow
def test_a_schedulers_sigterm_ends_a_run_in_one_line(runs: Runs, tmp_path: Path) -> None:
    """It often reaches all processes at once, Ray's too. Ray's C++ has a handler that prints a stack of addresses."""
    mark = uuid.uuid4().hex
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (tmp_path / "empty.yaml").write_text("")
    command = [sys.executable, "-m", "whisperfleet", "train", str(tmp_path / "empty.yaml")]
    process = subprocess.Popen(
        [*command, *runs.settings("terminated"), "optim.max_steps=1000"],
        env=environment | {MARK: mark},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_checkpoint(runs.folder / "terminated", lambda: process.poll() is None)
        os.killpg(process.pid, signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, stderr
    *steps, last = stderr.splitlines()
    assert re.fullmatch(
        r"ended by SIGTERM at step \d+ of 1000: the same command goes on from the last checkpoint, if there is one",
        last,
    ), stderr
    assert all(line.startswith("step ") for line in steps), stderr
    assert stdout == ""
    assert left_over(mark) == []
    assert module.newest(RunFolder(str(runs.folder / "terminated"))) is not None  # from which it goes on


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_is_a_persons_matter_and_the_run_goes_on_once_there_is_room(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as `worker 0 died`, and tried again in vain."""
    attempts: list[object] = []
    real = module._trainer
    monkeypatch.setattr(module, "_trainer", lambda *args: attempts.append(args) or real(*args))
    with small_disk(tmp_path / "disk", 24) as disk:
        config = runs.config("full", f"run.folder={disk}", "optim.max_steps=4", "tracking.report_to=[]")
        ballast = fill(disk, leave=5_000_000)  # room for one checkpoint, and not for two
        with pytest.raises(UserError, match="no space left for a checkpoint of 3") as caught:
            fit(config)
        assert caught.value.message.startswith(f"{disk}/full/checkpoints: ")
        assert caught.value.hint == "free some space: the same command goes on from the last checkpoint"
        assert len(attempts) == 1
        ballast.unlink()
        done = finish(config)
        assert done.progress[-1].resumed_at == 2
        assert done.fitted.card.training["step"] == 4


def test_who_died_of_what_is_said_in_one_line() -> None:
    failures = {1: RuntimeError("a traceback\n\nthe node is gone\n"), 0: RuntimeError("SIGKILL")}
    assert module._lost(ray.train.WorkerGroupError("...", failures)) == "worker 0, 1 died (RuntimeError: SIGKILL)"


@pytest.mark.slow
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


@pytest.mark.slow
def test_workers_killed_at_random_points_and_restarted_as_2_1_2_meet_each_utterance_once_an_epoch(
    whole: Finished, runs: Runs
) -> None:
    """And the learning rate of each step is that of a run that nobody killed."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # shown where the test fails
    chance = random.Random(seed)
    config = runs.config("random", "run.ledger=true", "run.checkpoint_every_steps=1", "workers.max_failures=0")
    learning_rates: dict[int, float] = {}
    for count, last in ((2, chance.randint(2, 4)), (1, chance.randint(4, 6)), (2, None)):

        def on_progress(now: Progress, last: int | None = last) -> None:
            learning_rates[now.step] = now.learning_rate
            if last is not None and now.step >= last:
                chance.choice(workers()).send_signal(signal.SIGKILL)

        with pytest.raises(ray.train.WorkerGroupError) if last is not None else contextlib.nullcontext():
            fit(config.model_copy(update={"workers": config.workers.model_copy(update={"count": count})}), on_progress)
    lines = list(ledger.read(str(runs.folder / "random" / ledger.LEDGER)))
    assert [line.step for line in lines] == list(range(1, STEPS + 1))
    assert [sorted(line.ids) for line in lines] == [sorted(ids) for ids in planned(config)]
    epochs = defaultdict(list)
    for line in lines:
        epochs[line.epoch] += line.ids
    assert len(epochs) >= 2
    assert sorted(epochs[0]) == sorted(clip.id for clip in runs.clips)
    assert learning_rates == {one.step: one.learning_rate for one in whole.progress}


@pytest.mark.slow
def test_elastic_workers_share_steps_that_they_do_not_divide(ray_cluster: None, runs: Runs) -> None:
    """Three micro-batches a step, one or two workers: what is left over is filled up with idle ones."""
    settings = ["workers.elastic={min: 1, max: 2}", "plan.micro_batches_per_step=3", "run.ledger=true"]
    config = runs.config("elastic", *settings, "optim.max_steps=4")
    done = finish(config)
    lines = list(ledger.read(str(runs.folder / "elastic" / ledger.LEDGER)))
    assert [sorted(line.ids) for line in lines] == [sorted(ids) for ids in planned(config)]
    assert [one.step for one in done.progress] == [1, 2, 3, 4]
    assert all(0 < one.loss < 5 for one in done.progress)
