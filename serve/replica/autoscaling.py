"""Autoscaling of replicas: as many as the queued audio keeps busy."""

from __future__ import annotations

import math

from ray.serve.config import AggregationFunction, AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve.config import ServeConfig

QUEUED_AUDIO = "queued_audio_s"

# One that is decoded and one that waits: a replica is never idle, and what comes waits for no more than two.
BATCHES_EACH = 2

# Replicas report each 10 s (RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S), so less would see nothing at times.
LOOK_BACK_S = 15.0


class QueuedAudio:
    """Ray Serve's policy: a replica for each ``audio_s_each`` seconds of audio queued or being decoded.

    Ray pickles it by value, and applies the bounds and delays of the configuration to its result.
    """

    def __init__(self, audio_s_each: float) -> None:
        self._audio_s_each = audio_s_each

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, object]]:
        """Return the target number of replicas, and no state."""
        queued = (context.aggregated_metrics or {}).get(QUEUED_AUDIO, {})
        return max(1, math.ceil(sum(queued.values()) / self._audio_s_each)), {}


def autoscaling(config: ServeConfig) -> AutoscalingConfig:
    """Return Serve's settings for a deployment of ``config.replicas``."""
    replicas = config.replicas
    policy = AutoscalingPolicy(
        policy_function=f"{QueuedAudio.__module__}:{QueuedAudio.__name__}",
        policy_kwargs={"audio_s_each": BATCHES_EACH * config.max_batch_audio_s},
    )
    return AutoscalingConfig(
        min_replicas=replicas.min,
        max_replicas=replicas.max,
        upscale_delay_s=replicas.up_after_s,
        downscale_delay_s=replicas.down_after_s,
        look_back_period_s=LOOK_BACK_S,
        aggregation_function=AggregationFunction.MEAN,
        policy=policy,
    )
