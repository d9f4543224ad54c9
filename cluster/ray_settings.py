"""Environment variables by which Ray is set up, wherever this project starts it."""

from __future__ import annotations

# What all processes of a Ray that we start are told, where whoever starts it says nothing else.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
