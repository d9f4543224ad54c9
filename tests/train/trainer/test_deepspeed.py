from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file

from asr.config import resolve
from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.family import load_checkpoint
from tests.train.parallel import CTC, GATHERED, STEPS, WHISPER, Case, Outcome, base_of, run, run_all, write_base
from train.config import TrainConfig
from train.trainer.deepspeed import derive, fixed_world_size

Alone = dict[tuple[str, str], Outcome]
"""The outcomes of one process, by network and strategy."""

PARALLEL = ("ddp", "zero1", "zero2", "zero3")
BASIC = [Case(parallelism, strategy) for parallelism, strategy in product(PARALLEL, ("full", "lora"))]
# In `make test` each way to share has one case, and ZeRO-3, where checkpoints have to be gathered, both strategies.
SHORT = {
    Case("ddp", "full"),
    Case("zero1", "lora"),
    Case("zero2", "full"),
    Case("zero3", "full"),
    Case("zero3", "lora"),
}
DROPOUT = ("lora.dropout=0.3",)
RESUMED = [
    *(Case(parallelism, "full", resume_at=2) for parallelism in ("zero2", "zero3")),
    *(Case(parallelism, "lora", DROPOUT, resume_at=2) for parallelism in ("zero2", "zero3")),
]
SAME = [  # other ways to compute the same
    Case("zero3", "lora", ("activation_checkpointing=true",)),
    Case("zero2", "full", ("offload=cpu",)),
    Case("zero3", "frozen_encoder"),
]
OF_CTC = [  # a head that is trained beside adapters, convolutions with a norm of their weights, masks of padding
    Case("ddp", "lora", network=CTC),
    Case("zero1", "full", network=CTC),
    Case("zero2", "lora", ("offload=cpu", "activation_checkpointing=true"), network=CTC),
    Case("zero3", "full", network=CTC),
    Case("zero3", "lora", network=CTC),
]
ROUNDED = [Case(parallelism, "lora", ("precision=bf16",)) for parallelism in ("ddp", "zero3")]
SHORT |= {*OF_CTC, RESUMED[1], RESUMED[2], SAME[1], ROUNDED[1]}


def params(cases: Sequence[Case]) -> list[Any]:
    """Return cases as parameters: slow ones, and long ones those that `make test` can do without."""
    return [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case in SHORT else pytest.mark.long)
        for case in cases
    ]


def config(*settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, ["base=none", "data.train=none.jsonl", *settings]).value


def derived(*settings: str, world_size: int = 2) -> dict:
    settings_of_deepspeed = derive(config(*settings), world_size)
    assert settings_of_deepspeed is not None
    return settings_of_deepspeed


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("parallel") / "base")


@pytest.fixture(scope="module")
def two_workers(request: pytest.FixtureRequest, base: Path, ray_cluster: None) -> dict[Case, Outcome]:
    """The cases of all tests that are run, on two workers in one Ray Train run: starting one takes longer than a case.

    A case that goes on comes after the one that it goes on with.
    """
    tests = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params["case"] for item in tests if "two_workers" in getattr(item, "fixturenames", ())}
    whole = {replace(case, resume_at=0) for case in asked}
    cases = sorted(asked | whole, key=lambda case: (case.resume_at, case.name))
    trainer = TorchTrainer(
        run_all,
        train_loop_config={"cases": cases, "base": base, "folder": base.parent / "two"},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="parallel", storage_path=str(base.parent)),
    )
    return trainer.fit().return_value


@pytest.fixture(scope="module")
def plain(base: Path) -> Alone:
    """The same plan in one process, without DeepSpeed."""
    asked = [(WHISPER, "full"), (WHISPER, "frozen_encoder"), (WHISPER, "lora"), (CTC, "full"), (CTC, "lora")]
    folder = base.parent / "one"
    return {
        (network, strategy): run(Case("ddp", strategy, network=network), base, folder) for network, strategy in asked
    }


@pytest.mark.parametrize("case", params([*BASIC, *SAME, *OF_CTC]))
def test_two_workers_train_as_one_process_does(case: Case, two_workers: dict[Case, Outcome], plain: Alone) -> None:
    """Tokens weigh the same wherever they fell, gradients are clipped at the same norm."""
    ours, alone = two_workers[case], plain[case.network, case.strategy]
    assert len(ours.losses) == STEPS
    assert ours.losses == pytest.approx(alone.losses, abs=1e-3)
    assert ours.norms == pytest.approx(alone.norms, rel=1e-3)
    assert min(alone.norms) > case.config.optim.max_grad_norm / 2
    assert max(alone.norms) > case.config.optim.max_grad_norm


@pytest.mark.parametrize("case", params([*BASIC, *SAME, *ROUNDED, *OF_CTC]))
def test_checkpoints_hold_whole_weights_that_load_without_deepspeed(
    case: Case, two_workers: dict[Case, Outcome], base: Path
) -> None:
    folder = two_workers[case].folder
    gathered = load_file(folder / GATHERED)
    if case.strategy == "lora":
        saved = load_file(folder / "adapter_model.safetensors")
        expected = {
            name.replace(".modules_to_save", "").replace(".default", ""): value
            for name, value in gathered.items()
            if ".lora_" in name or ".modules_to_save." in name
        }
    else:
        for path in base_of(base, case.network).glob("*.json"):
            if not (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)
        saved = dict(load_checkpoint(Checkpoint("trained", folder, "sha256:")).network.named_parameters())
        expected = gathered
        assert "proj_out.weight" not in load_file(folder / "model.safetensors"), "the embeddings under another name"
    assert saved.keys() == expected.keys()
    assert any("lm_head" in name for name in saved) == (case.network == CTC)
    for name, value in expected.items():
        assert torch.equal(saved[name], value), name
    assert any(value.any() for name, value in expected.items() if "lora_B" in name) or case.strategy != "lora"


@pytest.mark.parametrize("case", params([*OF_CTC, *BASIC]))
def test_an_evaluation_has_the_weights_that_are_trained(case: Case, two_workers: dict[Case, Outcome]) -> None:
    """ZeRO-3 shares them out, buffers apart, and leaves networks that are built meanwhile notes on theirs."""
    assert two_workers[case].apart < 1e-5


@pytest.mark.parametrize("case", params(RESUMED))
def test_a_resumed_run_ends_in_the_same_weights(case: Case, two_workers: dict[Case, Outcome]) -> None:
    whole = two_workers[replace(case, resume_at=0)]
    resumed = two_workers[case]
    assert resumed.losses == whole.losses[case.resume_at :]
    expected = load_file(whole.folder / GATHERED)
    for name, value in load_file(resumed.folder / GATHERED).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("case", params(ROUNDED))
def test_bf16_learns_nearly_the_same(case: Case, two_workers: dict[Case, Outcome], plain: Alone) -> None:
    assert two_workers[case].losses == pytest.approx(plain[WHISPER, "lora"].losses, rel=1e-3)
    assert two_workers[case].losses != pytest.approx(plain[WHISPER, "lora"].losses, rel=1e-6), "it was not fp32"


def test_ddp_does_without_and_may_change_its_number_of_workers() -> None:
    assert derive(config(), 2) is None
    assert [fixed_world_size(parallelism) for parallelism in PARALLEL] == [False, True, True, True]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_everything_follows_from_the_one_configuration(stage: int) -> None:
    asked = [
        f"parallelism=zero{stage}",
        "precision=bf16",
        "batching.micro_batches_per_step=6",
        "optim.max_grad_norm=0.5",
    ]
    settings = derived(*asked, "batching.max_clips=5", world_size=2)
    assert settings["zero_optimization"]["stage"] == stage
    assert (settings["bf16"], settings["fp16"]) == ({"enabled": True}, {"enabled": False})
    assert settings["gradient_accumulation_steps"] == 3
    assert settings["gradient_clipping"] == 0.5
    assert settings["train_micro_batch_size_per_gpu"] == 5
    assert "optimizer" not in settings, "the optimiser is the one of ddp"
    assert ("stage3_gather_16bit_weights_on_model_save" in settings["zero_optimization"]) == (stage == 3)


def test_offload_puts_the_optimiser_and_with_zero3_the_weights_on_the_host() -> None:
    two, three = (derived(f"parallelism={name}", "offload=cpu")["zero_optimization"] for name in ("zero2", "zero3"))
    assert two["offload_optimizer"] == three["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in two
    assert three["offload_param"]["device"] == "cpu"


def test_amendments_go_deep_and_leave_the_rest() -> None:
    amended = ["deepspeed={zero_optimization: {reduce_bucket_size: 1000, overlap_comm: true}, steps_per_print: 7}"]
    settings = derived("parallelism=zero2", *amended)
    assert settings["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": True}
    assert settings["steps_per_print"] == 7
    assert settings["gradient_clipping"] == 1.0


@pytest.mark.parametrize(
    ("amendment", "key", "ours"),
    [
        ("{zero_optimization: {stage: 3}}", "zero_optimization.stage", "parallelism"),
        ("{zero_optimization: null}", "zero_optimization", "parallelism"),
        (
            "{zero_optimization: {offload_optimizer: {device: nvme}}}",
            "zero_optimization.offload_optimizer.device",
            "off",
        ),
        ("{gradient_clipping: 2.0}", "gradient_clipping", "optim.max_grad_norm"),
        ("{optimizer: {type: Lion}}", "optimizer.type", "optim"),
        ("{bf16: {enabled: true}}", "bf16.enabled", "precision"),
    ],
)
def test_amendments_that_contradict_us_are_refused_by_name(amendment: str, key: str, ours: str) -> None:
    with pytest.raises(UserError, match=rf"^deepspeed\.{key} contradicts {ours}"):
        derived("parallelism=zero2", f"deepspeed={amendment}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["offload=cpu"], "offload=cpu needs parallelism=zero2 or zero3, not ddp"),
        (["offload=cpu", "parallelism=zero1"], "offload=cpu needs parallelism=zero2 or zero3, not zero1"),
        (["deepspeed={steps_per_print: 7}"], "deepspeed amends nothing with parallelism=ddp"),
        (["parallelism=zero2", "workers.elastic={min: 1, max: 2}"], "zero2 cannot change its number of workers"),
        (["strategy=qlora", "parallelism=zero3"], "zero3 cannot share out 4-bit weights"),
        (["precision=fp16"], "precision=fp16 needs workers.gpu=true"),
    ],
)
def test_keys_that_do_not_go_together_are_named(settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config(*settings)
