from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import ray.train
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import WhisperConfig

from asr.config import resolve
from asr.errors import UserError
from asr.io import storage, transfer
from asr.models.artifact import README, load_model
from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.models.model_card import CURVE
from asr.models.whisper.network import AnyContextWhisper
from asr.scoring.evaluation import UtteranceResult
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.manifests import write_beside
from tests.releases import write_release
from tests.warm.processes import Script
from train.checkpoints.best import find
from train.config import TrainConfig
from train.evaluation import evaluator as judge_module
from train.evaluation.evaluator import AsyncValidation, Evaluator, frozen, score, scored_on, with_weights
from train.evaluation.schedule import EvaluationConfig, Scoring
from train.events import Failed, Progress, ProgressBoard, Scored
from train.run.fit import Fitted, fit
from train.tracking.history import NAME, evaluations, rows
from train.trainer.adapter import adapt
from train.trainer.strategy import LoraSettings, Strategy


def scoring(clips: list[Utterance], retention: tuple[Utterance, ...] = ()) -> Scoring:
    config = EvaluationConfig(sample_clips=4, patience=2)
    return Scoring(config, tuple(clips[:3]), retention, 2, False, "short", None, "nowhere")


def trained(model: SpeechModel, strategy: Strategy) -> torch.nn.Module:
    """A network in the midst of training: dropout on, weights that are not those of the base."""
    torch.manual_seed(3)
    network = adapt(copy.deepcopy(model.network), strategy, LoraSettings(rank=2, dropout=0.5)).train()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight += 0.02 * torch.randn_like(weight)
    return network


@pytest.fixture(scope="module")
def brief_model(english_model: SpeechModel) -> SpeechModel:
    """A model that says a few tokens and no more, as weights in disorder would go on for long."""
    network = copy.deepcopy(english_model.network)
    network.generation_config.max_length = 12
    return replace(english_model, network=network)


def random_states() -> list[bytes]:
    numpy_state = np.random.get_state()[1]
    return [
        torch.get_rng_state().numpy().tobytes(),
        np.asarray(numpy_state).tobytes(),
        repr(random.getstate()).encode(),
    ]


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_scoring_leaves_a_network_in_training_as_it_was(
    strategy: Strategy, small_model: SpeechModel, flac_clips: list[Utterance]
) -> None:
    """The next dropout masks are those of a run that is not scored."""
    network = trained(small_model, strategy)
    network.get_submodule("base_model" if strategy == "lora" else "model").eval()  # a part that was not training
    modes = [module.training for module in network.modules()]
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    states = random_states()
    evaluator = Evaluator(scoring(flac_clips, (flac_clips[4],)), None, [], 0)
    evaluator.score_base(small_model)
    scored = evaluator.score(network, small_model, 2)
    assert random_states() == states
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    assert [(one.corpus, one.step) for one in evaluator.scored] == [
        ("retention", 0),
        ("validation", 2),
        ("retention", 2),
    ]
    assert scored is evaluator.scored[1]
    assert scored.summary["utterances"] == 3


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_the_live_network_says_what_its_checkpoint_says(
    strategy: Strategy, brief_model: SpeechModel, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    network = trained(brief_model, strategy)
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    with frozen(network) as live:
        said = score(replace(brief_model, network=live), scoring(flac_clips), "validation", 2, "short")
    base = replace(brief_model, network=copy.deepcopy(brief_model.network))
    again = score(with_weights(base, tmp_path), scoring(flac_clips), "validation", 2, "short")
    before = score(brief_model, scoring(flac_clips), "validation", 2, "short")
    assert said.summary["wer"] == again.summary["wer"]
    assert said.summary["wer"] != before.summary["wer"]


def test_a_base_that_was_scored_is_not_scored_again(small_model: SpeechModel, flac_clips: list[Utterance]) -> None:
    known = Scored(0, "retention", {"wer": {"rate": 0.1}})
    evaluator = Evaluator(scoring(flac_clips, (flac_clips[4],)), None, [known], 0)
    evaluator.score_base(replace(small_model, network=None))  # type: ignore[arg-type]
    assert evaluator.scored == [known]


def test_clips_that_cannot_be_read_leave_the_others_to_be_scored(
    small_model: SpeechModel, flac_clips: list[Utterance]
) -> None:
    gone = replace(flac_clips[0], id="gone", audio="/no/such.flac")
    some = score(small_model, scoring([gone, *flac_clips]), "validation", 2, "short")
    assert some.summary["utterances"] == 2
    with pytest.raises(UserError, match=r"data\.validation: none of 1 utterances can be evaluated.*missing_file"):
        score(small_model, scoring([gone]), "validation", 2, "short")


@pytest.mark.parametrize("fault", [RuntimeError("CUDA error: out of memory"), UserError("nothing to be heard")])
def test_an_evaluation_that_fails_for_any_reason_is_told_and_the_others_are_made(
    fault: Exception, small_model: SpeechModel, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    progress = SimpleNamespace(post=SimpleNamespace(remote=told.append), scored=SimpleNamespace(remote=list))
    monkeypatch.setattr("ray.get", lambda value: value)
    real = judge_module.evaluate

    def failing(model: SpeechModel, share: list[Utterance], *args: Any, **options: Any) -> Any:
        if share[0].id == flac_clips[4].id:
            raise fault
        return real(model, share, *args, **options)

    monkeypatch.setattr(judge_module, "evaluate", failing)
    evaluator = Evaluator(scoring(flac_clips, (flac_clips[4],)), progress, [], 0)
    evaluator.score_base(small_model)
    scored = evaluator.score(trained(small_model, "lora"), small_model, 2)
    assert scored is not None and scored.corpus == "validation"
    assert [type(one) for one in told] == [Failed, Scored, Failed]
    assert all(str(fault) in one.error for one in told if isinstance(one, Failed))
    assert Evaluator(scoring([flac_clips[4]]), None, [], 0).score(trained(small_model, "lora"), small_model, 2) is None


def test_two_workers_hear_half_each_and_come_to_one_figure(
    small_model: SpeechModel, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = score(small_model, scoring(flac_clips), "validation", 2, "short")
    said: list[tuple[list[UtteranceResult], float, str]] = []

    def gather(part: tuple[list[UtteranceResult], float, str]) -> list[tuple[list[UtteranceResult], float, str]]:
        said.append(part)
        return said

    monkeypatch.setattr(judge_module, "gather", gather)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: len(said))
    score(small_model, scoring(flac_clips), "validation", 2, "short")
    together = score(small_model, scoring(flac_clips), "validation", 2, "short")
    assert [len(results) for results, _, _ in said] == [2, 1]
    figures = ("utterances", "audio_s", "wer", "wer_ortho", "cer")
    assert {name: together.summary[name] for name in figures} == {name: alone.summary[name] for name in figures}


@dataclass
class Data:
    """Manifests of a small run, and what is common to its configurations."""

    folder: Path
    base: str

    def config(self, name: str, *settings: str) -> TrainConfig:
        return resolve(TrainConfig, None, [*self.common, f"run.name={name}", *settings]).value

    @property
    def common(self) -> list[str]:
        return [
            f"base={self.base}",
            *(f"data.{part}={self.folder / part}.jsonl" for part in ("train", "validation", "retention")),
            f"run.folder={self.folder}",
            "run.checkpoint_every_steps=2",
            "optim.warmup_steps=1",
            # So small that nothing is learnt: the first evaluation is the best, and patience comes to its end.
            "optim.learning_rate=1e-9",
            "batching.max_clips=1",
            "batching.full_window_share=1",
            "lora.rank=2",
            "workers.cpus_each=1",
            "evaluation.sample_clips=3",
        ]


@pytest.fixture
def data(tmp_path: Path, small_base: str, flac_clips: list[Utterance]) -> Data:
    for name, clips in (("train", flac_clips[:12]), ("validation", flac_clips[12:18]), ("retention", flac_clips[18:])):
        write_beside(tmp_path / f"{name}.jsonl", clips)
    return Data(tmp_path, small_base)


def test_what_a_run_is_scored_on(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2})
    found = scored_on(
        data.config("run", "evaluation.every_steps=4", "batching.full_window_share=0"),
        InitialModel(data.base),
        "/runs/run",
    )
    assert found is not None
    assert (found.every_steps, found.is_async, found.context, found.best) == (4, False, "short", "/runs/run/best")
    assert (len(found.validation), len(found.retention)) == (3, 3)
    assert (
        scored_on(
            data.config("run", "data.validation=null", "data.retention=null"), InitialModel(data.base), "/runs/run"
        )
        is None
    )
    (data.folder / "retention.jsonl").write_text("")
    with pytest.raises(UserError, match=r"retention"):
        scored_on(data.config("run"), InitialModel(data.base), "/runs/run")


def test_a_validation_set_in_letters_that_are_never_learnt_ends_a_run_at_its_start(
    data: Data, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2})
    write_beside(data.folder / "thaana.jsonl", [replace(flac_clips[0], text="ދިވެހި", language="dv")])
    latin = tiny.write(data.folder / "latin", "wav2vec2-base-960h")
    with pytest.raises(UserError, match=r"^data\.validation: 1 of 1 transcripts have letters"):
        scored_on(
            data.config("run", f"data.validation={data.folder}/thaana.jsonl"), InitialModel(str(latin)), "/runs/run"
        )


def finish(config: TrainConfig) -> tuple[Fitted, list[Progress]]:
    seen: list[Progress] = []
    return fit(config, seen.append), seen


def common_voice(data: Data, clips: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a release of Common Voice, go to the folder above, and return the settings that name it from there."""
    write_release(data.folder / "cv-en", "en", dev=clips[12:18])
    monkeypatch.chdir(data.folder)
    return ["data.validation={source: cv-en, format: common_voice, split: dev}", "data.train=train.jsonl"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_without_hope_stops_and_hands_over_its_best(
    data: Data, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is scored on a release in the folder above: workers stand in another one, and found no file there."""
    above = common_voice(data, flac_clips, monkeypatch)
    hopeless = ["optim.max_steps=40", "evaluation.patience=2", "evaluation.mode=sync"]
    fitted, seen = finish(data.config("inline", *above, *hopeless))
    run, artifact = data.folder / "inline", Path(fitted.artifact)
    assert "by the workers" in capsys.readouterr().err

    training = fitted.card.training
    assert seen[-1].step == training["last_step"] == 6
    assert training["step"] == 2
    assert seen[-1].wer is not None

    best = find(str(run / "best"))
    assert best is not None
    assert best.step == 2
    kept = load_file(run / "best" / best.folder / "adapter_model.safetensors")
    handed = load_file(artifact / "adapter_model.safetensors")
    assert all(torch.equal(handed[name], weight) for name, weight in kept.items())

    scored = [(one.step, one.corpus) for one in evaluations(run / NAME)]
    assert scored == [(0, "retention"), *((step, name) for step in (2, 4, 6) for name in ("validation", "retention"))]
    assert training["retention"]["loss"] == pytest.approx(0)
    steps = [row for row in rows(run / NAME) if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    charted = {"learning_rate", "grad_norm", "audio_per_s", "tokens_per_s", "wait_share", "padding_share", "memory_gib"}
    assert all(charted <= row.keys() for row in steps)
    assert steps[-1]["tokens"] > 0
    assert steps[-1]["memory_gib"] > 0.1

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("validation/wer")] == [2, 4, 6]
    assert CURVE in fitted.card.files
    readme = (artifact / README).read_text()
    assert f"![learning curve]({CURVE})" in readme
    assert "| validation sample, step 2 | 3 |" in readme
    assert len(list((run / "checkpoints").glob("step_*"))) == 2
    load_model(str(artifact))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_at_an_address_is_scored_beside_its_workers(data: Data, s3: str, tmp_path: Path) -> None:
    place = storage.join(s3, tmp_path.name)
    at_s3 = [f"run.folder={json.dumps(place)}", "run.keep_checkpoints=1", "evaluation.mode=async"]
    fitted, seen = finish(data.config("beside", "optim.max_steps=4", *at_s3))
    run = storage.join(place, "beside")
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert fitted.artifact == storage.join(run, "artifact")
    assert (fitted.card.training["step"], fitted.card.training["last_step"]) == (2, 4)
    told = {(one["step"], one["corpus"]) for one in fitted.card.training["evaluations"]}
    assert told == {(0, "retention"), (2, "validation"), (2, "retention"), (4, "validation"), (4, "retention")}
    best = find(storage.join(run, "best"))
    assert best is not None
    assert best.step == 2
    transfer.download(run, tmp_path / "copy")
    assert len(evaluations(tmp_path / "copy" / NAME)) == 5
    events = EventAccumulator(str(tmp_path / "copy" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert {entry.name for entry in storage.list_files(storage.join(run, "artifact"))} >= {CURVE, README, "card.json"}


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_unreadable_speech_does_not_end_a_run(
    data: Data, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first evaluation found no file, and the run died of it."""
    write_beside(data.folder / "retention.jsonl", [replace(clip, audio="/no/such.flac") for clip in flac_clips[18:]])
    above = common_voice(data, flac_clips, monkeypatch)
    fitted, seen = finish(data.config("above", *above, "optim.max_steps=4", "evaluation.mode=sync"))
    assert seen[-1].step == 4
    training = fitted.card.training
    assert [(one["step"], one["corpus"]) for one in training["evaluations"]] == [(2, "validation"), (4, "validation")]
    assert [one["step"] for one in training["failed_evaluations"]] == [0, 2, 4]
    assert "data.retention: none of " in training["failed_evaluations"][0]["error"]
    assert "retention" not in training
    assert "Evaluations that failed, at steps 0, 2, 4" in Path(fitted.artifact, README).read_text()


@pytest.mark.usefixtures("ray_cluster")
def test_an_evaluation_beside_the_workers_that_fails_is_told_to_the_board(
    small_model: SpeechModel, small_base: str, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    trained(small_model, "lora").save_pretrained(tmp_path / "step_0000002")  # type: ignore[operator]
    gone = replace(flac_clips[0], audio="/no/such.flac")
    progress = ray.remote(num_cpus=0)(ProgressBoard).remote()
    is_async = AsyncValidation(replace(scoring([gone]), is_async=True), InitialModel(small_base), 1, progress)
    assert is_async(ray.train.Checkpoint.from_directory(str(tmp_path / "step_0000002"))) == {}
    ((_, told),) = ray.get(progress.fetch.remote(0))
    assert isinstance(told, Failed)
    assert (told.step, told.error[:45]) == (2, "data.validation: none of 1 utterances can be ")


SHARED_OUT = """
import sys, torch, torch.distributed, deepspeed
from train.trainer.deepspeed import skip_kernels
from train.evaluation.evaluator import frozen
from tests.train.evaluation.test_evaluator import small_network
skip_kernels()
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, "zero_force_ds_cpu_optimizer": False}
for strategy in ("lora", "full"):
    network = small_network(strategy)
    expected = {name: weight.clone() for name, weight in network.named_parameters()}
    optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad])
    deepspeed.initialize(model=network, optimizer=optimizer, config=settings)
    assert all(weight.numel() == 0 for weight in network.parameters())  # none of them is here as a whole
    network.train()
    state = torch.get_rng_state()
    with frozen(network) as whole:
        assert whole.proj_out.weight is whole.model.decoder.embed_tokens.weight
        found = dict(whole.named_parameters())
        assert len(found) == len(expected)
        for name, weight in expected.items():
            assert torch.equal(found[name.removeprefix("base_model.model.")], weight), name
        whole.model.encoder(torch.zeros(1, 4, 20))
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training and all(weight.numel() == 0 for weight in network.parameters())
    print("WHOLE", strategy)
"""


def small_network(strategy: Strategy) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "vocab_size": 60, "num_mel_bins": 4, "max_source_positions": 20}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
    network = AnyContextWhisper(WhisperConfig(**sizes, **layers, **heads, **ids))
    return adapt(network, strategy, LoraSettings(rank=2)).train()


@pytest.mark.slow
def test_weights_that_deepspeed_shares_out_are_made_whole(tmp_path: Path) -> None:
    """In a process of its own: DeepSpeed changes torch for good."""
    launched = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = Script(SHARED_OUT, [str(tmp_path / "meet")], launched).wait(240)
    assert "WHOLE lora" in done.stdout, done.stderr
    assert "WHOLE full" in done.stdout, done.stderr
