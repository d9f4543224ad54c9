"""What a run or an endpoint asks of a cluster, and whether it is there, said before anything waits for it in vain."""

from __future__ import annotations

import os
from collections.abc import Mapping

import ray

from asr.errors import UserError

# Actors that mostly wait (progress board, data coordinators, Serve's controller and proxy) are promised a logical CPU
# each by a local cluster, so that on two cores they never keep a training worker or a data task from being scheduled.
WAITING_ACTORS = 4

# Of a Ray Data task, so that on two cores preparation is scheduled beside the workers; it needs 1 % of a step's time.
DATA_TASK_CPUS = 0.25


def require(wanted: Mapping[str, float], who: str, hints: Mapping[str, str]) -> None:
    """Raise UserError where the connected cluster holds less of a resource (``CPU``, ``GPU``) than ``who`` needs.

    What others occupy at the moment counts as there: Ray waits for it. ``hints`` say what to do about each resource.
    """
    present = ray.cluster_resources()
    for kind, amount in wanted.items():
        if amount > present.get(kind, 0):
            raise UserError(f"{who} needs {amount:g} {kind}s, the cluster has {present.get(kind, 0):g}", hints[kind])


def threads_each(asked: int, gpu: bool, count: int) -> int:
    """Return the CPU threads of one of ``count`` processes: as ``asked``, else all cores shared, or 4 beside a GPU."""
    return asked or (4 if gpu else max(1, (os.cpu_count() or 1) // count))
