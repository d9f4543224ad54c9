"""The steps that a configuration, or a cluster, is taken through in seconds, before any GPU hour is spent on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asr.errors import DataError, UserError
from cluster.session import ray_session
from cluster.survey import survey
from train.checks import data as checks_data
from train.checks import heldout
from train.checks import labels as checks_labels
from train.checks import model as checks_model
from train.checks import nodes as checks_nodes
from train.checks import place as checks_place
from train.checks.subject import Outcome, Subject
from train.config import TrainConfig


@dataclass(frozen=True)
class Step:
    """One question about a run. It is skipped where a step that it ``needs`` has failed or was skipped itself."""

    name: str
    run: Callable[[Any], Outcome]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A step's outcome, and the seconds that it took."""

    name: str
    outcome: Outcome
    seconds: float


STEPS = (
    Step("data", checks_data.data),
    Step("held-out audio", heldout.audio),
    Step("overlap", checks_data.overlap, needs=("data",)),
    Step("letter case", checks_data.letter_case, needs=("data",)),
    Step("speaking rate", checks_data.speaking_rate, needs=("data",)),
    Step("augmentation", checks_data.augmentation),
    Step("normaliser", checks_data.normaliser, needs=("data",)),
    Step("base", checks_labels.base),
    Step("language", checks_labels.language, needs=("data", "base")),
    Step("start of transcript", checks_labels.start, needs=("language",)),
    Step("label order", checks_labels.order, needs=("start of transcript",)),
    Step("label length", checks_labels.length, needs=("language",)),
    Step("generation config", checks_labels.generation, needs=("start of transcript", "label order")),
    Step("machine", checks_place.machine),
    Step("decoding", checks_model.decoding, needs=("start of transcript",)),
    Step("gradients", checks_model.gradients, needs=("start of transcript", "label order", "machine")),
    Step("checkpoint folder", checks_place.folder),
    Step("cluster", checks_place.cluster),
)


NODE_STEPS = (
    Step("nodes", checks_nodes.answer),
    Step("versions", checks_nodes.versions, needs=("nodes",)),
    Step("code", checks_nodes.same_code, needs=("nodes",)),
    Step("GPUs", checks_nodes.gpus, needs=("nodes",)),
    Step("network", checks_nodes.network, needs=("nodes",)),
    Step("shared storage", checks_nodes.shared_storage, needs=("nodes",)),
    Step("disks", checks_nodes.disk, needs=("nodes",)),
    Step("clocks", checks_nodes.clock, needs=("nodes",)),
    Step("model cache", checks_nodes.model_cache, needs=("nodes",)),
)


def check(
    config: TrainConfig, address: str | None = None, on_start: Callable[[int, str], None] | None = None
) -> Iterator[Result]:
    """Yield the result of each of STEPS as it ends. ``on_start`` is called with (number, name) before each.

    No step ends the others: a UserError, or the DataError of a whole batch, is its outcome.
    """
    return _results(STEPS, Subject(config, address), on_start)


def check_nodes(
    config: TrainConfig | None, address: str | None = None, on_start: Callable[[int, str], None] | None = None
) -> Iterator[Result]:
    """Do the same with NODE_STEPS, on the nodes of a cluster, for a run of ``config`` where there is one."""
    with ray_session(address), survey() as nodes:
        yield from _results(NODE_STEPS, checks_nodes.Nodes(nodes, config), on_start)


def _results(steps: Sequence[Step], subject: Any, on_start: Callable[[int, str], None] | None) -> Iterator[Result]:
    unmet: set[str] = set()
    for number, step in enumerate(steps, start=1):
        if on_start is not None:
            on_start(number, step.name)
        started = time.monotonic()
        missing = [name for name in step.needs if name in unmet]
        outcome = Outcome("skipped", f"it needs: {', '.join(missing)}") if missing else _outcome(step, subject)
        if missing or outcome.state == "failed":
            unmet.add(step.name)
        yield Result(step.name, outcome, time.monotonic() - started)


def _outcome(step: Step, subject: Any) -> Outcome:
    try:
        return step.run(subject)
    except UserError as error:
        return Outcome("failed", error.message, error.hint)
    except DataError as error:
        return Outcome("failed", str(error))
