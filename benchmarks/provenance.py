"""Provenance of a benchmark's figures: the machine and versions they were measured with, and its progress."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata

from asr.parsed import JsonObject


def provenance(packages: Sequence[str]) -> JsonObject:
    """Return the machine's cores, the installed versions of ``packages`` and the commit, None outside a checkout.

    The version of what is not installed is None: a benchmark asks at its end, when all has been measured.
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return {
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in packages},
        "commit": commit.stdout.strip() or None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def tell(message: str) -> None:
    """Report progress to whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)
