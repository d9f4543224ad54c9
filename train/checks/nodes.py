"""Steps of `check --cluster`: the nodes of a cluster are alike, reach each other, and see the same storage."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import ray

from asr.errors import UserError
from asr.io import storage
from asr.parsed import JsonObject
from cluster.launch import STORAGE
from cluster.probe import code
from cluster.survey import FIRST_S, Node, ask
from train.checkpoints.run_folder import RunFolder
from train.checks.subject import CheckOutcome
from train.config import TrainConfig

FULL = 0.95  # of a disk: Ray takes no more objects there
SCARCE = 10e9  # bytes
SKEW_S, FAR_S = 1.0, 60.0  # S3 and others refuse what is 15 minutes off; logs of a second cannot be put in order
_MEETS_S = 20.0
_ALIKE = ("ray", "torch", "transformers", "accelerate", "deepspeed", "peft", "numpy", "pyarrow")

Answer = TypeVar("Answer")


@dataclass
class Nodes:
    """Subject of the cluster checks: the nodes, and what a run would ask of them."""

    nodes: list[Node]
    config: TrainConfig | None = None

    @property
    def uri(self) -> str:
        """The folder where a run would keep its checkpoints, "" if that is not known."""
        return RunFolder.of(self.config).uri if self.config else os.environ.get(STORAGE, "")

    @cached_property
    def facts(self) -> dict[str, JsonObject]:
        """Each node's description of itself. Raises UserError where one says nothing."""
        return _all(*ask(self.nodes, lambda node: node.probe.facts.remote(_ALIKE), FIRST_S))


def answer(subject: Nodes) -> CheckOutcome:
    """Check that a process can be started on every node."""
    cpus, gpus = (ray.cluster_resources().get(kind, 0) for kind in ("CPU", "GPU"))
    return CheckOutcome("ok", f"{len(subject.facts)} nodes, {cpus:g} CPUs, {gpus:g} GPUs: {', '.join(subject.facts)}")


def versions(subject: Nodes) -> CheckOutcome:
    """Check that Python and the packages are those of the head on every node."""
    first, *others = subject.facts.items()
    odd = []
    for name, facts in others:
        for package, version in facts["versions"].items():
            if version != first[1]["versions"][package]:
                odd.append(
                    f"{package} {version or 'is missing'} on {name}, {first[1]['versions'][package]} on {first[0]}"
                )
    if odd:
        raise UserError("; ".join(odd), "start all nodes from one image, or submit with --packages pip")
    shown = ", ".join(f"{package} {version}" for package, version in first[1]["versions"].items() if version)
    return CheckOutcome("ok", shown)


def same_code(subject: Nodes) -> CheckOutcome:
    """Check that every node imports this project's code as it is here."""
    here = code()
    odd = {name: facts["code"] for name, facts in subject.facts.items() if facts["code"] != here}
    if odd:
        shown = ", ".join(f"{name} has {found or 'none'}" for name, found in odd.items())
        raise UserError(f"this code is {here}, {shown}", "whisperfleet submit brings the checkout to every node")
    return CheckOutcome("ok", here)


def gpus(subject: Nodes) -> CheckOutcome:
    """Check that Ray knows of the GPUs that are there, and that they are alike."""
    seen = {name: facts["gpus"] for name, facts in subject.facts.items()}
    told = {node.name: node.gpus for node in subject.nodes}
    if wrong := [name for name in seen if len(seen[name]) < told[name]]:
        shown = ", ".join(f"{name} has {len(seen[name])}, Ray counts {told[name]}" for name in wrong)
        raise UserError(shown, "nvidia-smi on that node says why; is the container given its GPUs?")
    if not any(seen.values()):
        return CheckOutcome("skipped", "no node has a GPU")
    shown = ", ".join(f"{name}: {_counted(found)}" for name, found in seen.items() if found)
    unused = [name for name in seen if len(seen[name]) > told[name]]
    kinds = {(model, memory, driver) for found in seen.values() for model, memory, driver in found}
    if unused:
        return CheckOutcome(
            "warning", f"{shown}; Ray counts fewer on {', '.join(unused)}", "start the node with --num-gpus"
        )
    if len(kinds) > 1:
        return CheckOutcome(
            "warning", f"{shown}; they differ", "the slowest sets the pace of all, the smallest the batch"
        )
    return CheckOutcome("ok", shown)


def _counted(found: list[tuple[str, int, str]]) -> str:
    model, memory, driver = found[0]
    return f"{len(found)} x {model}, {memory / 1024:.0f} GiB, driver {driver}"


def network(subject: Nodes) -> CheckOutcome:
    """Check that every node reaches every other one, and that gradients can be added up over all of them."""
    nodes = subject.nodes
    open_at = _all(*ask(nodes, lambda node: node.probe.listen.remote()))
    unreached = _all(*ask(nodes, lambda node: node.probe.dial.remote(open_at), FIRST_S))
    if faults := [
        f"{name} does not reach {other} at {why}" for name, of in unreached.items() for other, why in of.items()
    ]:
        raise UserError(
            "; ".join(faults[:3]), "open all ports between the nodes: Ray and PyTorch choose some at random"
        )
    _all_reduce("gloo", nodes, {node.name: node.probe for node in nodes})
    with_gpus = [node for node in nodes if node.gpus]
    if len(with_gpus) < 2:
        return CheckOutcome("ok", f"{len(nodes)} nodes reach each other, gloo adds up over all")
    probes = {node.name: node.gpu_probe() for node in with_gpus}
    try:
        _, busy = ask(with_gpus, lambda node: probes[node.name].now.remote(), FIRST_S)
        if busy:
            return CheckOutcome("warning", f"gloo adds up; NCCL was not tried: no GPU is free on {', '.join(busy)}")
        _all_reduce("nccl", with_gpus, probes)
    finally:
        for probe in probes.values():
            ray.kill(probe)
    return CheckOutcome("ok", f"gloo adds up over all {len(nodes)} nodes, NCCL over the {len(with_gpus)} with GPUs")


def _all_reduce(backend: str, nodes: list[Node], probes: Mapping[str, ray.actor.ActorHandle]) -> None:
    meeting = ray.get(probes[nodes[0].name].meeting_point.remote(), timeout=FIRST_S)
    rank = {node.name: number for number, node in enumerate(nodes)}
    said = _all(
        *ask(
            nodes,
            lambda node: probes[node.name].all_reduce.remote(backend, meeting, rank[node.name], len(nodes), _MEETS_S),
            _MEETS_S + FIRST_S,
        )
    )
    if faults := [f"{name}: {why}" for name, why in said.items() if why]:
        variable = {"gloo": "GLOO_SOCKET_IFNAME", "nccl": "NCCL_SOCKET_IFNAME"}[backend]
        raise UserError(f"{backend} does not add up: {'; '.join(faults)}", f"does {variable} name the right interface?")


def shared_storage(subject: Nodes) -> CheckOutcome:
    """Check that every node can read what another one writes where checkpoints go."""
    if not subject.uri:
        return CheckOutcome("skipped", f"no configuration is given, and no {STORAGE}")
    folder = storage.join(subject.uri, f".check-{uuid.uuid4().hex}")
    files = {node.name: storage.join(folder, node.id) for node in subject.nodes}
    try:
        said = _all(*ask(subject.nodes, lambda node: node.probe.write.remote(files[node.name])))
        if faults := [f"{name} cannot write: {why}" for name, why in said.items() if why]:
            raise UserError(
                "; ".join(faults), "mount the same disk on every node, or give each the bucket's credentials"
            )
        unread = _all(*ask(subject.nodes, lambda node: node.probe.read.remote(files)))
        if faults := [f"{name} does not see what {other} wrote" for name, of in unread.items() for other in of]:
            raise UserError(
                f"{subject.uri} is not the same on all nodes: {'; '.join(faults[:3])}",
                "run.folder has to be a shared disk or an address such as s3://",
            )
    finally:
        ask(subject.nodes, lambda node: node.probe.remove.remote(folder))
    return CheckOutcome("ok", f"{subject.uri}: each of {len(files)} nodes writes, all the others read")


def disk(subject: Nodes) -> CheckOutcome:
    """Check that there is room for Ray's objects, for the cache and for checkpoints under way."""
    local = [subject.uri] if subject.uri and not storage.is_remote(subject.uri) else []
    found = _all(*ask(subject.nodes, lambda node: node.probe.disks.remote(local)))
    rows = [(free, whole, name, path) for name, paths in found.items() for path, (free, whole) in paths.items()]
    if full := [
        f"{name}: {path} is {1 - free / whole:.0%} full"
        for free, whole, name, path in rows
        if free < (1 - FULL) * whole
    ]:
        raise UserError("; ".join(full), "free some: Ray keeps no objects on a disk over 95 %")
    free, _, name, path = min(rows)
    detail = f"least is {free / 1e9:.0f} GB free, on {name} in {path}"
    return (
        CheckOutcome("warning", detail, "a checkpoint of large-v3 with its optimiser has 18 GB")
        if free < SCARCE
        else CheckOutcome("ok", detail)
    )


def clock(subject: Nodes) -> CheckOutcome:
    """Check that clocks agree."""
    offsets = {}
    for node in subject.nodes:
        before = time.time()
        there = ray.get(node.probe.now.remote(), timeout=FIRST_S)
        after = time.time()
        offsets[node.name] = max(before - there, there - after, 0.0)  # what the way there and back cannot explain
    name = max(offsets, key=lambda name: offsets[name])
    detail = f"at most {offsets[name]:.1f} s off" + (f" ({name})" if offsets[name] else "")
    if offsets[name] > FAR_S:
        raise UserError(detail, "set the clock: chronyd or systemd-timesyncd")
    return CheckOutcome("warning", detail, "set the clock") if offsets[name] > SKEW_S else CheckOutcome("ok", detail)


def model_cache(subject: Nodes) -> CheckOutcome:
    """The base is on every node, so that none has to fetch it when it starts."""
    if subject.config is None:
        return CheckOutcome("skipped", "no configuration is given")
    base = subject.config.base
    absent = {
        name: why
        for name, why in _all(*ask(subject.nodes, lambda node: node.probe.has_base.remote(base), FIRST_S)).items()
        if why
    }
    if not absent:
        return CheckOutcome("ok", f"{base} is on all {len(subject.nodes)} nodes")
    detail = f"{base} is not on {', '.join(f'{name} ({why})' for name, why in absent.items())}"
    if storage.exists(base):
        raise UserError(detail, "a local folder has to be on every node: put it on the shared disk")
    return CheckOutcome(
        "warning", detail, "each fetches it when a worker starts there; or share WHISPERFLEET_CACHE and HF_HOME"
    )


def _all(answers: dict[str, Answer], silent: Mapping[str, str]) -> dict[str, Answer]:
    """Return the answers. Raises UserError where a node gave none."""
    if silent:
        raise UserError("; ".join(f"{name}: {why}" for name, why in silent.items()), "is it alive? ray list nodes")
    return answers
