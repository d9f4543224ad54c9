"""Entry point of a job on the cluster: checks the packages, then becomes the verb."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from asr.errors import UserError
from asr.io import storage
from cluster.environment import differences

JOB = "WHISPERFLEET_JOB"  # the name of the job that a process belongs to
STORAGE = "WHISPERFLEET_STORAGE"  # base of relative paths: a folder that all nodes see, or an address
PACKAGES = "WHISPERFLEET_PACKAGES"  # one of cluster.environment.Environment
_SHOWN = 4


def main() -> NoReturn:
    """Replace this process by the verb, so that what stops the job stops the verb."""
    root = Path.cwd()
    try:
        check_packages(root, os.environ.get(PACKAGES, "image"))
        argv = enter_storage(root, sys.argv[1:], os.environ.get(STORAGE, ""))
    except UserError as error:
        print(f"whisperfleet: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    # -P: nothing is imported from the folder of relative paths
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "whisperfleet", *argv])


def check_packages(root: Path, kind: str) -> None:
    """Compare this Python's packages with the pins. Raises UserError where they differ and shall not."""
    found = differences(root)
    if not found:
        return
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    if kind == "image":
        print(f"whisperfleet: the packages of {sys.executable} are not the pinned ones: {shown}", file=sys.stderr)
        return
    raise UserError(
        f"the packages of {sys.executable} on the cluster are not the pinned ones: {shown}",
        "submit with --packages pip to have the pinned ones installed, or with --packages image to do without",
    )


def enter_storage(root: Path, argv: Sequence[str], uri: str) -> list[str]:
    """Change to the folder ``uri``, if there is one, and return ``argv`` with files of the checkout made absolute.

    Relative paths of a configuration are then below it, as they are below a person's working directory. Raises
    UserError.
    """
    if not uri or storage.is_remote(uri):
        return list(argv)
    folder = Path(storage.local_path(uri))
    with storage.explained(uri, "cannot be the job's folder"):
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    return [str(root / word) if (root / word).is_file() else word for word in argv]


if __name__ == "__main__":
    main()
