"""In processes of their own: DeepSpeed changes torch for good, and one of two workers has to fail alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

WORKER = """
import contextlib, os, sys, types
import torch, torch.distributed, deepspeed
from asr.errors import UserError
from train.deepspeed import skip_kernels
from train.run import whole as module
from train.run.judge import Judge
from tests.train.run.test_judge import scoring, small_network
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
judge = Judge(scoring([]), None, [], 0)
judge._board = board
modes = [part.training for part in network.modules()]
assert judge.score(network, None, 7) is None
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


def workers(body: str, tmp_path: Path) -> list[subprocess.Popen[str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = WORKER.replace("{body}", body)
    found = []
    for rank in range(2):
        ranks = {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2"}
        found.append(
            subprocess.Popen(
                [sys.executable, "-c", script, str(tmp_path / "meet")],
                cwd=ROOT,
                env=os.environ | ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return found


@pytest.mark.slow
def test_gathering_weights_that_fails_ended_the_run(tmp_path: Path) -> None:
    both = workers(TOGETHER, tmp_path)
    try:
        for stdout, stderr in [process.communicate(timeout=240) for process in both]:
            said = [line for line in stdout.splitlines() if line.startswith(("NO ", "TOLD", "GOES"))]
            assert len(said) == len(SAID), stderr
            assert [line for line, begins in zip(said, SAID, strict=True) if not line.startswith(begins)] == []
    finally:
        end(both)


@pytest.mark.slow
def test_a_worker_that_left_an_exchange_alone_does_not_wait_for_ever(tmp_path: Path) -> None:
    both = workers(ALONE, tmp_path)
    try:
        stdout, stderr = both[1].communicate(timeout=240)
        assert "ALONE CUDA error: out of memory" in stdout, stderr
    finally:
        end(both)


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()
