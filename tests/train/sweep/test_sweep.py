"""Whole sweeps on real Ray Tune: few, because each trial starts workers of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.checkpoint import find_checkpoint
from tests.asr.disks import fill, small_disk
from tests.manifests import write_beside
from tests.train.checks.doctored import edit
from tests.train.runs import Runs
from tests.train.sweep.test_trials import trials
from train import console
from train.config import TrainConfig
from train.sweep import results
from train.sweep import sweep as module
from train.sweep.record import RECORD, SweepRecord
from train.sweep.space import resolve_sweep
from train.sweep.sweep import room_for, sweep
from train.sweep.trials import make_trials


def test_as_many_trials_at_a_time_as_workers_and_their_data_find_room() -> None:
    some = trials("lora.rank=grid(1, 2, 3, 4)", base=["base=builtin:tiny.en", "data.train=t", "data.validation=v"])
    one_gpu = ["base=builtin:tiny.en", "data.train=t", "data.validation=v", "workers={gpu: true, data_tasks_each: 4}"]
    on_gpus = trials("lora.rank=grid(1, 2, 3, 4)", base=one_gpu)
    assert room_for(None, some, {"CPU": 1}) == 1  # a person's own small cluster: one, and Ray says what is missing
    assert room_for(None, on_gpus, {"CPU": 64, "GPU": 3}) == 3  # 4 threads and a CPU's worth of data tasks each
    assert room_for(None, on_gpus, {"CPU": 64, "GPU": 8}) == 4
    assert room_for(2, on_gpus, {"CPU": 64, "GPU": 8}) == 2
    assert room_for(None, on_gpus, {"CPU": 14, "GPU": 8}) == 2  # the rest is for actors that wait
    with pytest.raises(UserError, match=r"concurrent=3: a trial needs 5 CPUs and 1 GPUs, the cluster has 14 and 8"):
        room_for(3, on_gpus, {"CPU": 14, "GPU": 8})


def brief(folder: Path) -> Path:
    """Real weights, whose words tell the better from the worse, that end their sentences soon when they are broken."""
    shutil.copytree(find_checkpoint("builtin:tiny.en").folder, folder)
    edit(folder / "generation_config.json", lambda told: told.update(max_length=40))
    return folder


@pytest.mark.slow
def test_a_sweep_stops_the_worse_names_the_best_and_goes_on_where_it_was_killed(
    ray_cluster: None, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_beside(tmp_path / "validation.jsonl", runs.clips[:4])
    words = [*runs.settings("swept"), f"data.validation={tmp_path / 'validation.jsonl'}", "optim.max_steps=4"]
    words.append(f"base={brief(tmp_path / 'brief')}")
    words.append("optim.warmup_steps=0")  # so that the second step meets weights that the first has broken
    asked = resolve_sweep(["optim.learning_rate=grid(0.001, 0.05, 1e30)"])
    made = make_trials(asked, None, words)
    base = made[0].config.model_copy(update={"run": made[0].config.run.model_copy(update={"folder": str(runs.folder)})})
    base = base.model_copy(update={"run": base.run.model_copy(update={"name": "swept"})})
    reads: list[object] = []
    read = module.training_data
    monkeypatch.setattr(module, "training_data", lambda config: reads.append(config) or read(config))

    taken = SweepRecord.write
    monkeypatch.setattr(SweepRecord, "write", lambda self: _until_the_second_starts(self, taken))
    with pytest.raises(KeyboardInterrupt):
        sweep(base, asked, made)
    monkeypatch.setattr(SweepRecord, "write", taken)
    before = json.loads((runs.folder / "swept" / RECORD).read_text())["trials"]
    assert [one["status"] for one in before] == ["finished", "running", "waiting"]
    artifact = runs.folder / "swept" / "trials" / "000" / "artifact" / "card.json"
    made_at = artifact.stat().st_mtime_ns

    record = sweep(base, asked, made)
    good, worse, broken = record.outcomes
    assert artifact.stat().st_mtime_ns == made_at  # a finished trial is not run again
    assert len(reads) == 2  # once in each attempt, for all trials
    assert (good.status, worse.status, broken.status) == ("finished", "stopped", "failed")
    assert [report.step for report in worse.reports] == [2]
    assert broken.error.startswith("step 2: the loss is nan: the weights are beyond all bounds since the step before")
    assert record.winner is good
    assert good.reports[-1].wer < 0.5  # real weights, trained by Ray's workers: random ones say nothing of this
    said = capsys.readouterr().err
    assert "trial 001 (optim.learning_rate=0.05): stopped early at step 2" in said
    assert (runs.folder / "swept" / results.PICTURE).is_file()
    load_model(str(runs.folder / "swept" / results.BEST))


@pytest.mark.parametrize(
    "moment",
    [pytest.param(" trials to run", marks=pytest.mark.slow), pytest.param(": started", marks=pytest.mark.long)],
)
def test_a_full_disk_under_a_sweep_was_tunes_traceback(
    ray_cluster: None,
    runs: Runs,
    small_base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    """Full before the first trial starts, which ends at once; or while it runs, whose own files find no room either."""
    write_beside(tmp_path / "validation.jsonl", runs.clips[:4])
    say = console.say

    def filling(text: str) -> None:
        say(text)
        if moment in text:
            fill(disk)

    monkeypatch.setattr(console, "say", filling)
    with small_disk(tmp_path / "disk", 60) as disk:
        words = [*runs.settings("full"), f"data.validation={tmp_path / 'validation.jsonl'}", f"run.folder={disk}"]
        words.append(f"base={small_base}")
        asked = resolve_sweep(["lora.rank=grid(2, 4, 8)", "concurrent=1"])
        with pytest.raises(UserError) as caught:
            sweep(resolve(TrainConfig, None, words).value, asked, make_trials(asked, None, words))
    assert caught.value.message.startswith(f"{disk}/full/sweep.json: no space left")
    said = capsys.readouterr().err
    assert said.count(": started") == 1  # the others would have met the same
    assert "its process died" not in said


def _until_the_second_starts(record: SweepRecord, write: object) -> None:
    write(record)  # type: ignore[operator]
    if record.outcomes[1].status == "running":
        raise KeyboardInterrupt
