"""In processes of their own: DeepSpeed changes torch for good, and one of two workers has to fail alone."""

from __future__ import annotations

import contextlib
import copy
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from asr.models.checkpoint import Checkpoint
from asr.models.family import load_checkpoint
from tests.asr.models.ctc import tiny
from tests.asr.models.ctc.test_layers import batch_for
from tests.warm.processes import Script
from train.evaluation.gathered_weights import whole
from train.trainer.adapter import adapt
from train.trainer.strategy import LoraSettings, Strategy

WORKER = """
import contextlib, os, sys, types
import torch, torch.distributed, deepspeed
from asr.errors import UserError
from train.trainer.deepspeed import skip_kernels
from train.evaluation import gathered_weights as module
from train.evaluation.evaluator import Evaluator
from tests.train.evaluation.test_evaluator import scoring, small_network
rank = int(os.environ["RANK"])
skip_kernels()
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, "zero_force_ds_cpu_optimizer": False}
network = small_network("lora")
expected = {name: weight.clone() for name, weight in network.named_parameters()}
optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad])
deepspeed.initialize(model=network, optimizer=optimizer, config=settings)
gathered = deepspeed.zero.GatheredParameters

def check():
    found = dict(module.whole(network).named_parameters())
    for name, weight in expected.items():
        assert torch.equal(found[name.removeprefix("base_model.model.")], weight), name
    assert all(weight.numel() == 0 for weight in network.parameters())

def failing(at, of):
    calls = iter(range(10**6))
    @contextlib.contextmanager
    def enter(weights):
        if next(calls) == at and rank in of:
            raise RuntimeError("CUDA error: out of memory")
        with gathered(weights):
            yield
    return enter

{body}
"""

TOGETHER = """
check()
empty = module._empty
if rank == 1:  # it has no room for its copy: nothing has been exchanged yet
    module._empty = lambda network: [].pop()
try:
    module.whole(network)
except UserError as error:
    print("NO ROOM", error)

def narrow(network):
    twin, pairs = empty(network)
    if rank == 1:
        pairs[1][1].data = torch.empty(3, 5)  # what is gathered cannot be copied there
    return twin, pairs
module._empty = narrow
try:
    module.whole(network)
except UserError as error:
    print("NO COPY", error)
module._empty = empty
check()

deepspeed.zero.GatheredParameters = failing(2, (0, 1))
told = []
board = types.SimpleNamespace(post=types.SimpleNamespace(remote=told.append),
                              scored=types.SimpleNamespace(remote=lambda: None))
evaluator = Evaluator(scoring([]), None, [], 0)
evaluator._progress = board
modes = [part.training for part in network.modules()]
assert evaluator.score(network, None, 7) is None
assert len(told) == 1
print("TOLD", told[0].step, told[0].error)
assert [part.training for part in network.modules()] == modes
deepspeed.zero.GatheredParameters = gathered
check()
print("GOES ON")
"""

SAID = (
    "NO ROOM the weights cannot be gathered: IndexError: pop from empty list",
    "NO COPY the weights cannot be gathered: RuntimeError: The size of tensor",
    "TOLD 7 the weights cannot be gathered: RuntimeError: CUDA error: out of memory",
    "GOES ON",
)

ALONE = """
module.PATIENCE_S = 3.0
check()
deepspeed.zero.GatheredParameters = failing(2, (1,))
try:
    module.whole(network)
except RuntimeError as error:
    print("ALONE", error, flush=True)
    os._exit(3)  # as Ray ends the workers of a group in which one died
"""


def workers(body: str, tmp_path: Path) -> list[Script]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    script = WORKER.replace("{body}", body)
    ranks = [{"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": "2"} for rank in "01"]
    return [Script(script, [str(tmp_path / "meet")], each | address) for each in ranks]


@pytest.mark.slow
def test_gathering_weights_that_fails_ended_the_run(tmp_path: Path) -> None:
    for ended in [process.wait(240) for process in workers(TOGETHER, tmp_path)]:
        said = [line for line in ended.stdout.splitlines() if line.startswith(("NO ", "TOLD", "GOES"))]
        assert len(said) == len(SAID), ended.stderr
        assert [line for line, begins in zip(said, SAID, strict=True) if not line.startswith(begins)] == []


@pytest.mark.slow
def test_a_worker_that_left_an_exchange_alone_does_not_wait_for_ever(tmp_path: Path) -> None:
    stays, leaves = workers(ALONE, tmp_path)
    ended = leaves.wait(240)
    stays.wait(0)
    assert "ALONE CUDA error: out of memory" in ended.stdout, ended.stderr


# LASR convolves with even kernels, and WavLM hands torch masks of two kinds: torch warns of both, once in a process
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize(
    ("name", "strategy"),
    [*((name, "full") for name in tiny.CONFIGS if name != "granite-speech-5.0"), ("parakeet-ctc-0.6b", "lora")],
)
def test_a_copy_of_a_ctc_network_had_buffers_of_nothing_and_took_padding_for_speech(
    name: str, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DeepSpeed here: it changes torch for good."""
    gathered = SimpleNamespace(GatheredParameters=lambda weights: contextlib.nullcontext())
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(zero=gathered))
    model = load_checkpoint(Checkpoint("tiny", tiny.write(tmp_path / "tiny", name), "sha256:1"))
    network = adapt(model.network, strategy, LoraSettings(rank=2)).eval()
    for kind, buffer in network.named_buffers():
        if kind.endswith("running_mean"):
            buffer += 1.0
    for weight in network.parameters():
        weight.ds_shape = weight.shape
    batch = batch_for(copy.deepcopy(model.network))
    with torch.no_grad():
        assert torch.allclose(whole(network)(**batch).logits, network(**batch).logits, atol=1e-5)
