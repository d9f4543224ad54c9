from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray.cloudpickle
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file

from asr.config import resolve
from asr.errors import UserError
from asr.models.head import InitialModel
from asr.utterance import Utterance
from tests.train.corpora import listed, ordering
from train.callbacks.checkpoint_report import STATE
from train.config import TrainConfig
from train.corpus.table import ValidatedUtterance
from train.run import worker as module
from train.run.worker import TrainJob, train_worker


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like that of a Ray Train worker; the process keeps its number of threads."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_trains_to_the_last_step_and_leaves_a_whole_checkpoint(
    workplace: Path, flac_clips: list[Utterance]
) -> None:
    """In Ray Train's local mode: the loop itself, in this process."""
    plain = ["base=builtin:tiny.en", "data.train=none.jsonl", "workers.cpus_each=1", "lora.rank=2"]
    steps = ["optim.max_steps=3", "optim.warmup_steps=1", "run.checkpoint_every_steps=2"]
    steps += ["batching.full_window_share=0", "batching.micro_batches_per_step=2"]
    config = resolve(TrainConfig, None, [*plain, *steps]).value
    gone = Utterance("gone", "/no/such.flac", "not to be heard", duration_s=1.0)
    clips = [*flac_clips[:3], gone]  # two steps an epoch
    corpus = listed(ordering(config.batching), [ValidatedUtterance(clip, 12) for clip in clips])
    job = TrainJob(config, InitialModel(config.base), corpus, progress=None)
    trainer = TorchTrainer(train_worker, train_loop_config={"job": job}, scaling_config=ScalingConfig(num_workers=0))
    metrics = trainer.fit().metrics
    assert metrics is not None
    assert metrics["step"] == 3
    assert 0 < metrics["loss"] < 5
    assert 0 <= metrics["wait_s"] <= metrics["seconds"]
    last = workplace / "trainer" / "checkpoint-3"
    state = json.loads((last / STATE).read_text())
    assert state["step"] == 3
    assert state["audio_s"] == metrics["audio_s"] > 0
    assert [(row["id"], row["reason"]) for row in state["quarantined"]] == [("gone", "missing_file")]  # once
    weights = load_file(last / "adapter_model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert all(weight.any() for name, weight in weights.items() if "lora_B" in name)


@pytest.mark.usefixtures("ray_cluster")
def test_a_loss_that_is_no_number_ends_a_run_at_once_and_names_step_and_utterances(
    workplace: Path, flac_clips: list[Utterance]
) -> None:
    plain = ["base=builtin:tiny.en", "data.train=none.jsonl", "workers.cpus_each=1", "lora.rank=2"]
    broken = ["optim.learning_rate=1e30", "optim.warmup_steps=0", "optim.max_steps=9", "run.checkpoint_every_steps=9"]
    config = resolve(TrainConfig, None, [*plain, *broken, "batching.micro_batches_per_step=1"]).value
    clips = flac_clips[:3]
    corpus = listed(ordering(config.batching), [ValidatedUtterance(clip, 12) for clip in clips])
    job = TrainJob(config, InitialModel(config.base), corpus, progress=None)
    trainer = TorchTrainer(train_worker, train_loop_config={"job": job}, scaling_config=ScalingConfig(num_workers=0))
    with pytest.raises(UserError, match=r"^step \d: the loss is nan: the weights are beyond .*; met: ") as caught:
        trainer.fit()
    message, hint = caught.value.args
    assert any(clip.id in message for clip in clips)
    assert "lower optim.learning_rate" in hint
    assert not list((workplace / "trainer").glob("checkpoint-*"))
    del caught
    gc.collect()  # the error holds the feed, whose pipeline has to end while Ray is there to be told


def test_an_error_that_holds_what_cannot_be_pickled_still_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile's hold the network: a run on a GPU ended with Ray's complaint about that, and no reason."""

    def fail(job: TrainJob) -> None:
        error = ValueError("the shape\nis not known")
        error.network = (number for number in ())  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(module, "_train", fail)
    with pytest.raises(RuntimeError, match=r"^ValueError: the shape\nis not known$") as caught:
        train_worker({"job": None})
    ray.cloudpickle.loads(ray.cloudpickle.dumps(caught.value))
