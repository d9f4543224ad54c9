"""CPUs of what runs beside the workers and replicas, and of each of these."""

from __future__ import annotations

import os

# Actors that mostly wait (progress actor, data coordinators, Serve's controller and proxy) are promised a logical CPU
# each by a local cluster, so that on two cores they never keep a training worker or a data task from being scheduled.
WAITING_ACTORS = 4

# Of a Ray Data task, so that on two cores preparation is scheduled beside the workers; it needs 1 % of a step's time.
DATA_TASK_CPUS = 0.25


def threads_each(asked: int, gpu: bool, count: int) -> int:
    """Return the CPU threads of one of ``count`` processes: as ``asked``, else all cores shared, or 4 beside a GPU."""
    return asked or (4 if gpu else max(1, (os.cpu_count() or 1) // count))
