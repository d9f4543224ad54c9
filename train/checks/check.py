"""Steps of `check`: test a configuration, or a cluster, in seconds, before any GPU hour is spent on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from asr.errors import DataError, UserError
from cluster.session import ray_session
from cluster.survey import survey
from train.checks import data as checks_data
from train.checks import heldout
from train.checks import labels as checks_labels
from train.checks import model as checks_model
from train.checks import nodes as checks_nodes
from train.checks import place as checks_place
from train.checks.subject import CheckOutcome, Subject
from train.config import TrainConfig

Of = TypeVar("Of")


@dataclass(frozen=True)
class CheckStep(Generic[Of]):
    """A check of a run. It is skipped where a step that it ``needs`` has failed or was skipped itself."""

    name: str
    run: Callable[[Of], CheckOutcome]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A step's outcome, and the seconds that it took."""

    name: str
    outcome: CheckOutcome
    seconds: float


STEPS = (
    CheckStep("data", checks_data.data),
    CheckStep("held-out audio", heldout.audio),
    CheckStep("overlap", checks_data.overlap, needs=("data",)),
    CheckStep("letter case", checks_data.letter_case, needs=("data",)),
    CheckStep("speaking rate", checks_data.speaking_rate, needs=("data",)),
    CheckStep("augmentation", checks_data.augmentation),
    CheckStep("normaliser", checks_data.normaliser, needs=("data",)),
    CheckStep("base", checks_labels.base),
    CheckStep("language", checks_labels.language, needs=("data", "base")),
    CheckStep("labels", checks_labels.start, needs=("language",)),
    CheckStep("label text", checks_labels.order, needs=("labels",)),
    CheckStep("label length", checks_labels.length, needs=("language",)),
    CheckStep("decoding settings", checks_labels.generation, needs=("labels", "label text")),
    CheckStep("machine", checks_place.machine),
    CheckStep("decoding", checks_model.decoding, needs=("labels",)),
    CheckStep("gradients", checks_model.gradients, needs=("labels", "label text", "machine")),
    CheckStep("checkpoint folder", checks_place.folder),
    CheckStep("cluster", checks_place.cluster),
)


NODE_STEPS = (
    CheckStep("nodes", checks_nodes.answer),
    CheckStep("versions", checks_nodes.versions, needs=("nodes",)),
    CheckStep("code", checks_nodes.same_code, needs=("nodes",)),
    CheckStep("GPUs", checks_nodes.gpus, needs=("nodes",)),
    CheckStep("network", checks_nodes.network, needs=("nodes",)),
    CheckStep("shared storage", checks_nodes.shared_storage, needs=("nodes",)),
    CheckStep("disks", checks_nodes.disk, needs=("nodes",)),
    CheckStep("clocks", checks_nodes.clock, needs=("nodes",)),
    CheckStep("model cache", checks_nodes.model_cache, needs=("nodes",)),
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


def _results(
    steps: Sequence[CheckStep[Of]], subject: Of, on_start: Callable[[int, str], None] | None
) -> Iterator[Result]:
    unmet: set[str] = set()
    for number, step in enumerate(steps, start=1):
        if on_start is not None:
            on_start(number, step.name)
        started = time.monotonic()
        missing = [name for name in step.needs if name in unmet]
        outcome = CheckOutcome("skipped", f"it needs: {', '.join(missing)}") if missing else _outcome(step, subject)
        if missing or outcome.state == "failed":
            unmet.add(step.name)
        yield Result(step.name, outcome, time.monotonic() - started)


def _outcome(step: CheckStep[Of], subject: Of) -> CheckOutcome:
    try:
        return step.run(subject)
    except UserError as error:
        return CheckOutcome("failed", error.message, error.hint)
    except DataError as error:
        return CheckOutcome("failed", str(error))
