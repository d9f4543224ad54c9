"""Whole runs on real Ray Train workers: few, because each start takes seconds; each proves several promises."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Thread

import psutil
import pytest
import torch
from safetensors.torch import load_file

from asr.artifact import load_model
from asr.audio import decode as decode_audio
from asr.config import resolve
from asr.decode import Clip, decode
from asr.errors import UserError
from asr.manifest import write_manifest
from asr.utterance import Utterance
from train import fit as module
from train.config import TrainConfig
from train.fit import Fitted, fit
from train.plan import plan
from train.progress import Progress

STEPS = 8
PATIENCE_S = 180.0  # for a first checkpoint on a busy machine


@dataclass
class Runs:
    """Configurations over one manifest, and one run that nobody interrupted."""

    folder: Path
    manifest: Path
    clips: list[Utterance]

    def config(self, name: str, *settings: str) -> TrainConfig:
        return resolve(TrainConfig, None, [*self.settings(name), *settings]).value

    def settings(self, name: str) -> list[str]:
        return [
            "base=builtin:tiny.en",
            f"data.train={self.manifest}",
            f"run.folder={self.folder}",
            f"run.name={name}",
            f"optim.max_steps={STEPS}",
            "optim.warmup_steps=1",
            "run.checkpoint_every_steps=2",
            "plan.max_clips=4",
            "plan.micro_batches_per_step=2",
            "plan.full_window_share=0",
            "lora.rank=4",
            "workers.cpus_each=1",
        ]


@dataclass
class Finished:
    fitted: Fitted
    progress: list[Progress]
    adapter: dict[str, torch.Tensor]


def finish(config: TrainConfig) -> Finished:
    seen: list[Progress] = []
    fitted = fit(config, seen.append)
    return Finished(fitted, seen, load_file(fitted.artifact / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, flac_clips: list[Utterance]) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    write_manifest(folder / "train.jsonl", flac_clips)
    return Runs(folder, folder / "train.jsonl", flac_clips)


@pytest.fixture(scope="module")
def whole(ray_cluster: None, runs: Runs) -> Finished:
    return finish(runs.config("whole"))


def planned_audio_s(runs: Runs, config: TrainConfig) -> float:
    lengths = [clip.duration_s or 0.0 for clip in runs.clips]
    steps = islice(plan(lengths, config.plan, config.seed), config.optim.max_steps)
    return sum(lengths[i] for step in steps for batch in step for i in batch.utterances)


def wait_for_checkpoint(run: Path, alive: Callable[[], bool]) -> None:
    """Return when Ray knows of a checkpoint: from there on a run must be able to go on."""
    record = run / "checkpoints" / "checkpoint_manager_snapshot.json"
    until = time.monotonic() + PATIENCE_S
    while not (record.is_file() and "step_0000002" in record.read_text()):
        assert alive()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_ends_in_an_artifact_that_decodes(whole: Finished, runs: Runs) -> None:
    card, config = whole.fitted.card, runs.config("whole")
    assert whole.fitted.artifact == runs.folder / "whole" / "artifact"
    assert (card.weights, card.short_context, card.training["step"]) == ("adapter", True, STEPS)
    assert card.training["audio_s"] == pytest.approx(planned_audio_s(runs, config), abs=0.1)
    assert 0 <= card.training["wait_s"] < card.training["seconds"]
    assert TrainConfig.model_validate(card.config) == config
    model = load_model(str(whole.fitted.artifact))
    clip = runs.clips[0]
    (heard,) = decode(model, [Clip(model.log_mel(decode_audio(clip.audio)))], "short")
    assert any(map(str.isalnum, heard.text))


@pytest.mark.slow
def test_progress_arrives_up_to_the_last_step(whole: Finished) -> None:
    steps = [progress.step for progress in whole.progress]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS
    last = whole.progress[-1]
    assert (last.max_steps, last.resumed_at) == (STEPS, 0)
    assert 0 < last.loss < 5
    assert last.audio_per_s > 0
    assert last.learning_rate < 1e-3


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(whole: Finished, runs: Runs) -> None:
    with pytest.raises(UserError, match="whole: this run is finished"):
        fit(runs.config("whole"))


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_settings_only(whole: Finished, runs: Runs, tmp_path: Path) -> None:
    (runs.folder / "other").mkdir()
    shutil.copy(runs.folder / "whole" / "run.json", runs.folder / "other")
    with pytest.raises(UserError, match=r"other settings: seed, optim"):
        fit(runs.config("other", "seed=1", "optim.max_steps=20"))
    write_manifest(tmp_path / "fewer.jsonl", runs.clips[:-1])
    with pytest.raises(UserError, match=r"other settings: data\.train$|other settings: data\.train "):
        fit(runs.config("other", f"data.train={tmp_path / 'fewer.jsonl'}"))


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(whole: Finished, runs: Runs) -> None:
    """The promise of resuming: the same weights as if nothing had happened, dropout masks and all."""
    ended = False

    def kill() -> None:
        wait_for_checkpoint(runs.folder / "killed", lambda: not ended)
        for process in psutil.Process().children(recursive=True):
            if process.cmdline()[:1] == ["ray::RayTrainWorker"]:
                process.send_signal(signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    try:
        killed = finish(runs.config("killed", "workers.max_failures=1"))
    finally:
        ended = True
        thread.join()
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
        env=environment | {"WHISPERFLEET_TEST": mark},
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
    until = time.monotonic() + 20
    while (left := [one for one in psutil.process_iter() if marked(one, mark)]) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []
    assert not (runs.folder / "stopped" / "artifact").exists()

    two = finish(runs.config("stopped", "workers.count=2"))
    assert 2 <= two.progress[-1].resumed_at < STEPS
    assert two.progress[-1].step == two.fitted.card.training["step"] == STEPS
    audio_s = two.fitted.card.training["audio_s"]  # nothing was heard twice, nothing left out
    assert audio_s == pytest.approx(whole.fitted.card.training["audio_s"])
    assert two.progress[-1].loss == pytest.approx(whole.progress[-1].loss, rel=0.1)  # but for other dropout masks
    load_model(str(two.fitted.artifact))


def marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("WHISPERFLEET_TEST") == mark
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_persons_mistake_comes_out_of_a_worker_as_it_went_in_and_is_not_tried_again(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path / "gone.jsonl", [replace(clip, audio="/no/such.flac") for clip in runs.clips])
    attempts: list[object] = []
    real = module._trainer
    monkeypatch.setattr(module, "_trainer", lambda *args: attempts.append(args) or real(*args))
    with pytest.raises(UserError) as caught:
        fit(runs.config("gone", f"data.train={tmp_path / 'gone.jsonl'}", "data.max_faulty_share=0"))
    assert "utterances could not be used, the last: missing_file: " in caught.value.message
    assert caught.value.hint == "mend the data, or raise data.max_faulty_share"
    assert len(attempts) == 1


def test_a_language_that_the_checkpoint_cannot_speak_is_found_before_any_worker_starts(
    runs: Runs, tmp_path: Path
) -> None:
    clips = [*runs.clips[:-1], replace(runs.clips[-1], language="it")]
    write_manifest(tmp_path / "mixed.jsonl", clips)
    with pytest.raises(UserError, match="English only, not 'it'"):
        fit(runs.config("mixed", f"data.train={tmp_path / 'mixed.jsonl'}"))
    assert not (runs.folder / "mixed").exists()


def test_manifests_without_durations_or_texts_are_refused(flac_clips: list[Utterance], tmp_path: Path) -> None:
    for bad, word in (
        (replace(flac_clips[1], duration_s=None), "duration"),
        (replace(flac_clips[1], text=" "), "text"),
    ):
        write_manifest(tmp_path / "bad.jsonl", [flac_clips[0], bad])
        with pytest.raises(UserError, match=rf"bad\.jsonl: '.*' has no {word}"):
            module.trainable(tmp_path / "bad.jsonl")
