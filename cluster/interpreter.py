"""Makes ``python`` in a job's command the one that Ray itself runs on.

A job's command is a line for the shell of the head, which takes whatever ``python`` comes first in PATH: often another
one than Ray's, where Ray was started from a virtual environment by its full path. Ray calls ``prefer`` in each process
of a job, first in the one that starts the command, and the command inherits its environment.
"""

from __future__ import annotations

import os
import sys

from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR

# What Ray makes of runtime_env["worker_process_setup_hook"] for the processes of a driver, but for those that it starts
# for a job: of these, the first one is the one that matters here.
VARIABLE = {WORKER_PROCESS_SETUP_HOOK_ENV_VAR: f"{__name__}.prefer"}


def prefer() -> None:
    """Put the folder of this interpreter first in PATH."""
    folder = os.path.dirname(os.path.abspath(sys.executable))
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if parts[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *(part for part in parts if part != folder)])
