"""Environment variables by which Ray is set up, wherever this project starts it."""

from __future__ import annotations

# What all processes of a Ray that we start are told, where whoever starts it says nothing else.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

# What those of a local one are told besides: nobody takes its node away, looks at its dashboard, or is shown its logs.
# Each costs what a small machine has little of: a process for each run, and looks at all processes and all files.
LOCAL = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    "LOG_NAME_UPDATE_INTERVAL_S": "600",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",  # of files, below which Ray looks without a pause
}

_LATE = ("timed out", "failed to connect to gcs")


def is_late(said: str) -> bool:
    """Return whether Ray says by this that it did not start in the half minute that it gives itself."""
    return any(words in said.lower() for words in _LATE)
