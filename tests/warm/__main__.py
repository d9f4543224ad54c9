"""``python -m tests.warm MODULE ARGUMENTS`` runs a module in this process; the workers of its Ray are forked."""

from __future__ import annotations

import runpy
import sys

from tests.warm.processes import warm_ray

if __name__ == "__main__":
    del sys.argv[0]
    with warm_ray():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
