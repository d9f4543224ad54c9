"""What a process imports for a piece of code: those that only pass speech on are to do without networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def imported_by(code: str, pickled: bytes = b"") -> set[str]:
    """Run code in a process of its own, with ``found`` from a pickle, and return the top-level packages it imports."""
    read = "import pickle, sys\nfound = pickle.load(sys.stdin.buffer)\n" if pickled else "import sys\n"
    told = f"{read}{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", told],
        input=pickled,
        capture_output=True,
        check=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    return set(ran.stdout.decode().split())
