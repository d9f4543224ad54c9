"""Number of ingresses: one on each node with replicas, and more where they have too much to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import ray
from ray.serve.config import AggregationFunction, AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve.config import ServeConfig

BUSY, NODES = "busy_share", "nodes"
# Of a core: an ingress's event loop is one thread, and waits for a core behind others beyond that.
MOST_BUSY = 0.6
LOOK_BACK_S = 15.0
INGRESS_CPUS = 1.0


class IngressLoad:
    """Load of this ingress: the share of a core that its process took since it was asked last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.process_time):
        self._clock, self._used = clock, used
        self._before = clock(), used()

    def figures(self, nodes: int) -> dict[str, float]:
        """Return what ``IngressPolicy`` decides by; ``nodes`` have replicas."""
        now = self._clock(), self._used()
        passed_s, used_s = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return {BUSY: used_s / passed_s if passed_s > 0 else 0.0, NODES: float(nodes)}


class IngressPolicy:
    """Ray Serve's policy: an ingress for each node with replicas, and as many as keep each busy 60 % of the time.

    Ray pickles it by value, and applies the bounds and delays of the configuration to its result.
    """

    def __init__(self, most_busy: float) -> None:
        self._most_busy = most_busy

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, object]]:
        """Return the target number of ingresses, and no state."""
        figures: Mapping[str, Mapping[object, float]] = context.aggregated_metrics or {}
        busy = sum(figures.get("busy_share", {}).values())
        nodes = max(figures.get("nodes", {}).values(), default=1.0)
        return max(1, math.ceil(nodes - 0.01), math.ceil(busy / self._most_busy)), {}


def ingress_range(config: ServeConfig, nodes: int) -> tuple[int, int]:
    """Return the least and the most ingresses, where so many nodes are there."""
    asked = config.ingresses
    if asked.max:
        return max(asked.min, 1), asked.max
    if nodes < 2:
        return 1, 1
    return min(config.replicas.min, nodes), max(config.replicas.max, config.replicas.min)


def _nodes(config: ServeConfig) -> int:
    """Return how many nodes of the connected cluster are large enough for a replica with an ingress beside it."""
    if not ray.is_initialized():
        return 1
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": config.threads + INGRESS_CPUS, "GPU": config.gpu}
    return sum(all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in found)


def least_ingresses(config: ServeConfig) -> int:
    """Return how many ingresses are always there on the connected cluster."""
    return ingress_range(config, _nodes(config))[0]


def ingress_options(config: ServeConfig) -> dict[str, object]:
    """Return Serve's settings for the number of ingresses on the connected cluster."""
    least, most = ingress_range(config, _nodes(config))
    if least == most:
        each = {} if config.ingresses.max or least == 1 else {"max_replicas_per_node": 1}
        return {"num_replicas": least, **each}
    policy = AutoscalingPolicy(
        policy_function=f"{IngressPolicy.__module__}:{IngressPolicy.__name__}",
        policy_kwargs={"most_busy": MOST_BUSY},
    )
    scaling = AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        upscale_delay_s=config.replicas.up_after_s,
        downscale_delay_s=config.replicas.down_after_s,
        look_back_period_s=LOOK_BACK_S,
        aggregation_function=AggregationFunction.MEAN,
        policy=policy,
    )
    return {"autoscaling_config": scaling}
