"""Whole runs on real Ray Train workers: few, because each start takes seconds; each proves several promises."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import whisperfleet
from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.whisper.shapes import SIZES
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest
from cluster.gpus import parse
from tests.manifests import write_beside
from tests.train.runs import STEPS, Finished, Runs, planned
from train.capacity import cost as prices
from train.capacity.options import options
from train.capacity.speed import cpu_flops
from train.config import TrainConfig
from train.run.fit import fit


def planned_audio_s(runs: Runs, config: TrainConfig) -> float:
    lengths = {clip.id: clip.duration_s or 0.0 for clip in runs.clips}
    return sum(lengths[name] for ids in planned(config) for name in ids)


@pytest.mark.slow
def test_a_run_ends_in_an_artifact_that_decodes(whole: Finished, runs: Runs) -> None:
    card, config = whole.fitted.card, runs.config("whole")
    assert whole.fitted.artifact == str(runs.folder / "whole" / "artifact")
    assert (card.weights, card.short_context, card.training["step"]) == ("adapter", True, STEPS)
    assert card.training["audio_s"] == pytest.approx(planned_audio_s(runs, config), abs=0.1)
    assert 0 <= card.training["wait_s"] < card.training["seconds"]
    assert TrainConfig.model_validate(card.config) == config
    model = load_model(str(whole.fitted.artifact))
    clip = runs.clips[0]
    (heard,) = decode(model, [DecodingRequest(model.features(decode_audio(clip.audio)))], "short")
    assert any(map(str.isalnum, heard.text))


@pytest.mark.slow
def test_a_run_says_what_it_took_by_the_formula_of_its_plan(whole: Finished, runs: Runs) -> None:
    """Seconds on a shared CPU are another matter: how near they come is in docs/capacity.md."""
    card, config = whole.fitted.card, runs.config("whole", "workers.price_per_hour=2")
    told = card.training["cost"]
    assert told["core_hours"] == told["device_hours"] >= told["device_hours_in_steps"] > 0  # a worker of one core
    assert told["cost"] is None
    taken = {"seconds": card.training["seconds"], "audio_s": card.training["audio_s"]}
    option = next(one for one in options(config, SIZES["openai/whisper-tiny"], parse("1xCPU-16GB", cpu_flops)))
    steps = replace(option.time, compute_s=taken["seconds"] / STEPS, communication_s=0.0, optimiser_s=0.0)
    as_planned = prices.planned(replace(option, time=steps, steps=STEPS), config)
    assert as_planned.device_hours == pytest.approx(prices.spent(config, taken).device_hours)
    assert as_planned.money == pytest.approx(2 * taken["seconds"] / 3600)


@pytest.mark.slow
def test_a_program_trains_by_a_file_and_words_as_the_command_does(
    ray_cluster: None, runs: Runs, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("base: elsewhere\ndata: {train: nowhere.jsonl}\nrun: {name: by-a-program}\n")
    words = [word for word in runs.settings("mine") if not word.startswith("run.name=")]
    fitted = whisperfleet.fit(tmp_path / "mine.yaml", *words, "optim.max_steps=2")
    assert fitted.artifact == str(runs.folder / "by-a-program" / "artifact")
    assert (fitted.card.base.name, fitted.card.training["step"]) == (runs.base, 2)
    load_model(str(fitted.artifact))


@pytest.mark.slow
def test_progress_arrives_up_to_the_last_step(whole: Finished) -> None:
    steps = [progress.step for progress in whole.progress]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS
    last = whole.progress[-1]
    assert (last.max_steps, last.resumed_at) == (STEPS, 0)
    assert last.loss == pytest.approx(math.log(51_864), abs=0.4)  # of weights that know nothing of the vocabulary
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
        fit(runs.config("other", "seed=1", "optim.max_steps=30"))
    write_beside(tmp_path / "fewer.jsonl", runs.clips[:-1])
    with pytest.raises(UserError, match=r"other settings: data\.train$|other settings: data\.train "):
        fit(runs.config("other", f"data.train={tmp_path / 'fewer.jsonl'}"))


@pytest.mark.medium
def test_a_language_that_the_checkpoint_cannot_speak_is_found_before_any_worker_starts(
    runs: Runs, tmp_path: Path
) -> None:
    clips = [*runs.clips[:-1], replace(runs.clips[-1], language="it")]
    write_beside(tmp_path / "mixed.jsonl", clips)
    with pytest.raises(UserError, match="English only, not 'it'"):
        fit(runs.config("mixed", f"data.train={tmp_path / 'mixed.jsonl'}"))
    assert not (runs.folder / "mixed").exists()
