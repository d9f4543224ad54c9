"""What importing ``asr`` alone does to a process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import os, asr, numpy as np
square = np.ones((2000, 2000), np.float32)
square @ square
print(len(os.listdir("/proc/self/task")), os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.medium
@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch may go by the same variable")
@pytest.mark.parametrize("wanted", ["1", "2"])
def test_numpy_s_threads_waited_busily_on_the_cores_of_an_engine_in_the_same_process(wanted: str) -> None:
    theirs = {} if wanted == "1" else {"OPENBLAS_NUM_THREADS": wanted}
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    run = subprocess.run([sys.executable, "-c", CODE], env=environment | theirs, capture_output=True, check=True)
    threads = min(int(wanted), os.cpu_count() or 1)
    assert run.stdout.split() == [str(threads).encode(), wanted.encode()]
