"""Asks a connected cluster for workers, and refuses what it is too small for before anything waits in vain."""

from __future__ import annotations

from collections.abc import Mapping

import ray
import ray.train

from asr.errors import UserError
from cluster.workers import Workers


def require(wanted: Mapping[str, float], who: str, hints: Mapping[str, str]) -> None:
    """Raise UserError where the connected cluster holds less of a resource (``CPU``, ``GPU``) than ``who`` needs.

    What others occupy at the moment counts as there: Ray waits for it. ``hints`` say what to do about each resource.
    """
    present = ray.cluster_resources()
    for kind, amount in wanted.items():
        if amount > present.get(kind, 0):
            raise UserError(f"{who} needs {amount:g} {kind}s, the cluster has {present.get(kind, 0):g}", hints[kind])


def require_workers(workers: Workers) -> None:
    """Raise UserError where the connected cluster is too small: Ray Train would wait for ever."""
    wanted = {"CPU": workers.least * workers.threads, "GPU": workers.least * workers.gpu}
    key = "workers.elastic.min" if workers.elastic else "workers.count"
    hints = {"CPU": f"lower {key} or workers.cpus_each", "GPU": "workers.gpu=false, or fewer workers"}
    require(wanted, "training", hints)


def scaling_config(workers: Workers) -> ray.train.ScalingConfig:
    """Return what Ray Train is asked for."""
    return ray.train.ScalingConfig(
        num_workers=(workers.least, workers.most) if workers.elastic else workers.count,
        **{"elastic_resize_monitor_interval_s": workers.elastic.resize_interval_s} if workers.elastic else {},
        use_gpu=workers.gpu,
        resources_per_worker={"CPU": workers.threads} | ({"GPU": 1} if workers.gpu else {}),
    )
