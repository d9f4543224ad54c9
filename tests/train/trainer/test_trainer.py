from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import WhisperConfig

from asr.config import resolve
from asr.errors import UserError
from asr.models.processor import IGNORED
from asr.models.whisper.loss import token_loss
from asr.models.whisper.network import AnyContextWhisper
from tests.asr.disks import fill, small_disk
from train.config import TrainConfig
from train.trainer.arguments import arguments
from train.trainer.trainer import MicroBatchTrainer, checkpoint_bytes

VOCABULARY = 60


def config(*settings: str) -> TrainConfig:
    plain = ["base=none", "data.train=none.jsonl", "optim.max_steps=1", "optim.warmup_steps=0", "workers.cpus_each=1"]
    return resolve(TrainConfig, None, [*plain, *settings]).value


def tiny_network(dropout: float = 0.0) -> AnyContextWhisper:
    torch.manual_seed(0)
    small = {"d_model": 16, "vocab_size": VOCABULARY, "num_mel_bins": 4, "max_source_positions": 20}
    layers = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 8))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": dropout}
    ids = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
    return AnyContextWhisper(WhisperConfig(**small, **layers, **heads, **ids))


def test_a_checkpoint_is_trained_weights_and_two_moments_of_each() -> None:
    network = tiny_network()
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    assert 0 < trained < sum(weight.numel() for weight in network.parameters())  # the encoder's positions are fixed
    assert checkpoint_bytes(network) == 12 * trained
    assert checkpoint_bytes(network.to(torch.bfloat16)) == 10 * trained
    for weight in network.parameters():  # as ZeRO-3 leaves them
        weight.ds_numel, weight.data = weight.numel(), torch.empty(0)  # type: ignore[attr-defined]
    assert checkpoint_bytes(network) == 12 * trained


def clips(count: int) -> dict[str, torch.Tensor]:
    """A batch whose clips have 2, 3, 4 ... tokens: uneven, as speech is."""
    random = torch.Generator().manual_seed(1)
    inputs = torch.randint(2, VOCABULARY, (count, 12), generator=random)
    labels = torch.randint(2, VOCABULARY, (count, 12), generator=random)
    for n in range(count):
        labels[n, 2 + n :] = IGNORED
    features = torch.randn((count, 4, 20), generator=random)
    return {"input_features": features, "decoder_input_ids": inputs, "labels": labels}


class Batches(IterableDataset):
    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([dict(batch) for batch in self.batches])


def trainer(
    batches: list[dict[str, torch.Tensor]], output: Path, *settings: str, dropout: float = 0.0
) -> MicroBatchTrainer:
    return MicroBatchTrainer(
        model=tiny_network(dropout),
        args=arguments(config(*settings), output, 1),
        train_dataset=Batches(batches),
        compute_loss_func=token_loss,
    )


@pytest.mark.medium
@pytest.mark.parametrize("split", [[8], [2, 2, 2, 2], [1, 7], [3, 5, 0]])
def test_the_loss_is_one_mean_over_all_tokens_however_clips_fell_into_micro_batches(
    split: list[int], tmp_path: Path
) -> None:
    whole = clips(8)
    parts: list[dict[str, torch.Tensor]] = []
    for size in split:
        start = sum(len(part["labels"]) for part in parts)
        parts.append({name: value[start : start + size] for name, value in whole.items()})
    if not split[-1]:  # an idle micro-batch: silence that no token is scored on
        parts[-1] = {name: value[:1].clone() for name, value in whole.items()}
        parts[-1]["labels"][:] = IGNORED
    network = tiny_network().train()
    outputs = network(whole["input_features"], decoder_input_ids=whole["decoder_input_ids"])
    kept = whole["labels"] != IGNORED
    expected = torch.nn.functional.cross_entropy(outputs.logits[kept], whole["labels"][kept])
    expected.backward()

    settings = [f"batching.micro_batches_per_step={len(parts)}", "optim.max_grad_norm=1e9", "optim.learning_rate=1e-12"]
    trained = trainer(parts, tmp_path, *settings)
    gradients: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        gradients.update({n: w.grad.clone() for n, w in trained.model.named_parameters() if w.grad is not None})

    trained.create_optimizer_and_scheduler(1)
    trained.optimizer.register_step_pre_hook(keep)
    trained.train()
    assert trained.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert gradients.keys() == {name for name, weight in network.named_parameters() if weight.grad is not None}
    for name, weight in network.named_parameters():
        if weight.grad is not None:
            assert torch.allclose(gradients[name], weight.grad, rtol=1e-4, atol=1e-7), name


@pytest.mark.medium
def test_going_on_from_a_checkpoint_is_the_same_as_never_stopping(tmp_path: Path) -> None:
    """Optimiser, schedule and the dropout masks too."""
    batches = [clips(2) | {"labels": clips(2)["labels"].roll(n, 0)} for n in range(6)]
    settings = ["optim.max_steps=6", "run.checkpoint_every_steps=3", "optim.learning_rate=0.01"]
    whole = trainer(batches, tmp_path / "whole", *settings, dropout=0.3)
    whole.args.save_total_limit = None
    torch.manual_seed(0)
    whole.train()
    rest = trainer(batches[3:], tmp_path / "rest", *settings, dropout=0.3)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert rest.state.global_step == 6
    for (name, expected), found in zip(whole.model.state_dict().items(), rest.model.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


@pytest.mark.medium
def test_a_full_local_disk_is_named_and_not_that_of_the_runs_folder(tmp_path: Path) -> None:
    with small_disk(tmp_path / "scratch", 1) as scratch:
        fill(scratch)
        with pytest.raises(
            UserError, match=r"no space left for a checkpoint of some 0\.\d MB on the local disk of "
        ) as caught:
            trainer([clips(2)], scratch / "trainer", "run.checkpoint_every_steps=1").train()
        assert caught.value.message.startswith(str(scratch))
        assert caught.value.hint == "free some space: the same command goes on from the last checkpoint"
